package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// document is what the inventory answers.
type document struct {
	Complete bool   `json:"complete"` // it says itself whether it knows everything
	Hosts    []host `json:"hosts"`
}

type host struct {
	Name    string         `json:"name"`
	Service string         `json:"service"`
	Address netip.AddrPort `json:"address"`
	Zone    string         `json:"zone"`
	Alive   bool           `json:"alive"`
}

// maxAnswer bounds the answer.
const maxAnswer = 16 << 20

// New is a source of that name that asks url every interval.
func New(name, url string, interval time.Duration) discovery.Source {
	client := &http.Client{Timeout: 10 * time.Second} // every call has a deadline
	return discovery.Poll(interval, 0.1, func(ctx context.Context) (*catalog.Snapshot, error) {
		doc, err := fetch(ctx, client, url)
		if err != nil {
			return nil, fmt.Errorf("inventory: %w", err) // publishes nothing: the last good set stays
		}
		return catalog.NewSnapshot(name, doc.services())
	})
}

// fetch reads everything, or fails.
func fetch(ctx context.Context, client *http.Client, url string) (*document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if !doc.Complete {
		return nil, fmt.Errorf("the inventory does not know everything now") // empty only if it says so
	}
	return &doc, nil
}

// services maps hosts, and decides nothing: a host that is down is there, as
// critical. What is no valid value is left out, and stops nothing else.
func (d *document) services() []*catalog.Service {
	byName := map[catalog.ServiceName]*catalog.Service{}
	for _, h := range d.Hosts {
		name, err := catalog.ParseServiceName(h.Service)
		if err != nil || !h.Address.IsValid() {
			continue
		}
		s := byName[name]
		if s == nil {
			s = &catalog.Service{Name: name, Ports: []catalog.Port{{Name: catalog.DefaultPort, Protocol: catalog.TCP}}}
			byName[name] = s
		}
		health := catalog.Passing
		if !h.Alive {
			health = catalog.Critical
		}
		e := catalog.Endpoint{ID: h.Name, Port: catalog.DefaultPort, Address: h.Address, Weight: 1, Health: health}
		if l, err := catalog.ParseLocality("rack/home/" + h.Zone); err == nil {
			e.Locality = l
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	var out []*catalog.Service
	for _, s := range byName {
		if s.Validate() == nil {
			out = append(out, s)
		}
	}
	return out
}
