package inventory_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/e2e/inventory"
)

func TestContract(t *testing.T) {
	discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
		b := newBackend(t)
		return discoverytest.Backend{
			Source: inventory.New("inventory", b.url, 20*time.Millisecond),
			Set:    func(c discoverytest.Content) { b.set(c, "") },
			Fail:   b.fail,
			Cut:    func(c discoverytest.Content) { b.set(c, "cut") },
		}
	})
}

// backend is an inventory in the hands of the test.
type backend struct {
	url string

	mu      sync.Mutex
	content discoverytest.Content
	fault   string
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

func (b *backend) set(c discoverytest.Content, fault string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content, b.fault = c, fault
}

func (b *backend) fail(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault = ""; on {
		b.fault = "down"
	}
}

func (b *backend) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Connection", "close")
	if b.fault == "down" {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	type host map[string]any
	hosts := []host{}
	for service, addresses := range b.content {
		for _, a := range addresses {
			hosts = append(hosts, host{"name": a, "service": service, "address": a, "zone": "r1", "alive": true})
		}
	}
	data, err := json.Marshal(map[string]any{"complete": true, "hosts": hosts})
	if err != nil {
		panic(err)
	}
	if b.fault == "cut" {
		data = data[:len(data)/2]
	}
	_, _ = w.Write(data)
}
