package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// instanceVariable makes this test's binary an instance of a service.
const instanceVariable = "ISTHMUS_FAULTS_INSTANCE"

func TestMain(m *testing.M) {
	if what := os.Getenv(instanceVariable); what != "" {
		panic(serve(what))
	}
	flag.Parse()
	// Worlds wait for most of their time: all of them at once take as long as the
	// longest, on any number of cores.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	m.Run()
}

// manner is how an instance meets calls.
type manner string

const (
	well    manner = "well"
	refuse  manner = "refuse"  // 503, at once
	dawdle  manner = "dawdle"  // 503, after dawdleFor
	hangUp  manner = "hang up" // reads the request and closes the connection
	stutter manner = "stutter" // hangs up on half of them
	// checkPath is where health checks ask: they are no calls.
	checkPath = "/healthz"
	bucket    = 100 * time.Millisecond
	dawdleFor = 300 * time.Millisecond
)

// instance is one process of a service, seen by the test.
type instance struct {
	*stand.Process
	cluster          string
	address, control netip.AddrPort
}

func newInstance(t *testing.T, s *stand.Stand, cluster, name string) *instance {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{cluster: cluster, address: stand.FreePort(t), control: stand.FreePort(t)}
	i.Process = stand.NewProcess(t, filepath.Join(s.Dir, "logs"), cluster+"-"+name, self)
	i.Env = []string{fmt.Sprintf("%s=%s %s %s", instanceVariable, i.address, i.control, cluster)}
	return i
}

func (i *instance) awaitReady(t *testing.T) {
	t.Helper()
	stand.Eventually(t, within, i.Name+" ready", func() error {
		_, err := stand.Get("http://" + i.control.String() + "/arrivals")
		return err
	})
}

// behave changes how it meets calls from now on.
func (i *instance) behave(t *testing.T, m manner) {
	t.Helper()
	if _, err := stand.Get("http://" + i.control.String() + "/behave?manner=" + url.QueryEscape(string(m))); err != nil {
		t.Fatal(err)
	}
}

// arrivals are the requests that reached it, by the number of their bucket since
// 1970, as it counted them.
func (i *instance) arrivals(t *testing.T) map[int64]int {
	t.Helper()
	body, err := stand.Get("http://" + i.control.String() + "/arrivals")
	counts := map[int64]int{}
	if err == nil {
		err = json.Unmarshal(body, &counts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// serve is the process of an instance.
func serve(what string) error {
	var address, control, cluster string
	if _, err := fmt.Sscan(what, &address, &control, &cluster); err != nil {
		return err
	}
	var mu sync.Mutex
	counts, now, asked := map[int64]int{}, well, 0
	service := func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == checkPath {
			return
		}
		mu.Lock()
		counts[time.Now().UnixNano()/int64(bucket)]++
		m := now
		if asked++; m == stutter {
			m = []manner{well, hangUp}[asked%2]
		}
		mu.Unlock()
		switch m {
		case well:
			_, _ = io.WriteString(rw, cluster)
		case dawdle:
			select {
			case <-r.Context().Done():
				return
			case <-time.After(dawdleFor):
			}
			rw.WriteHeader(http.StatusServiceUnavailable)
		case refuse:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case hangUp, stutter:
			panic(http.ErrAbortHandler)
		}
	}
	controls := http.NewServeMux()
	controls.HandleFunc("/behave", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range []manner{well, refuse, dawdle, hangUp, stutter} {
			if string(m) == r.URL.Query().Get("manner") {
				now = m
			}
		}
	})
	controls.HandleFunc("/arrivals", func(rw http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(rw).Encode(counts)
	})
	ended := make(chan error, 2)
	for at, h := range map[string]http.Handler{address: http.HandlerFunc(service), control: controls} {
		srv := &http.Server{Addr: at, Handler: h, ReadHeaderTimeout: time.Minute}
		go func() { ended <- srv.ListenAndServe() }()
	}
	return <-ended
}

// errBroken is an answer that had begun when what carried it was lost: nobody can
// ask again.
var errBroken = errors.New("the answer broke")

// call asks a service at an HTTP way in for the cluster that answers.
func call(client *http.Client, way netip.AddrPort, authority string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+way.String()+"/", nil)
		if err != nil {
			return "", err
		}
		req.Host = authority
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBroken, err)
		}
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
		}
		return string(body), err
	}
}
