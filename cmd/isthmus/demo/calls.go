package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// callInterval is the time between two calls to one service.
	callInterval = 100 * time.Millisecond
	// callTimeout is when the live view gives a call up.
	callTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 10
)

// Caller calls the demo's services through the gateways of one cluster, as an
// application there would: by name, with no knowledge of other clusters.
type Caller struct {
	client *http.Client
	// ways are the gateways' HTTP listeners; a call goes to the next one when
	// the connection itself fails.
	ways []string
}

// NewCaller calls through the given host:port listeners.
func NewCaller(ways []string) *Caller {
	return &Caller{ways: ways, client: &http.Client{
		Timeout:   callTimeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute},
	}}
}

// Close drops the idle connections.
func (c *Caller) Close() { c.client.CloseIdleConnections() }

// Call asks a service ("billing") once and says who answered.
func (c *Caller) Call(ctx context.Context, service string) (Answer, error) {
	return c.callHost(ctx, service+".default.mesh")
}

// CallIn asks a service in one cluster only.
func (c *Caller) CallIn(ctx context.Context, service, cluster string) (Answer, error) {
	return c.callHost(ctx, service+".default."+cluster+".mesh")
}

func (c *Caller) callHost(ctx context.Context, host string) (Answer, error) {
	var last error
	for _, way := range c.ways {
		a, answered, err := c.try(ctx, way, host)
		if answered {
			return a, err
		}
		last = err
	}
	return Answer{}, last
}

// try reports answered when the gateway said anything at all.
func (c *Caller) try(ctx context.Context, way, host string) (a Answer, answered bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+way+"/", nil)
	if err != nil {
		return a, false, err
	}
	req.Host = host
	resp, err := c.client.Do(req)
	if err != nil {
		return a, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, true, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, true, fmt.Errorf("%s: %s", resp.Status, cmp.Or(resp.Header.Get("Isthmus-Reason"), "no reason given"))
	}
	return a, true, json.Unmarshal(body, &a)
}

// tally is what the calls of one interval saw.
type tally struct {
	mu       sync.Mutex
	services map[string]*serviceTally
}

type serviceTally struct {
	clusters map[string][]time.Duration
	errors   map[string]int
}

func (t *tally) add(service string, a Answer, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.services == nil {
		t.services = map[string]*serviceTally{}
	}
	s := t.services[service]
	if s == nil {
		s = &serviceTally{clusters: map[string][]time.Duration{}, errors: map[string]int{}}
		t.services[service] = s
	}
	if err != nil {
		s.errors[shortError(err)]++
		return
	}
	s.clusters[a.Cluster] = append(s.clusters[a.Cluster], took)
}

// take returns the tally as one line and starts a new one.
func (t *tally) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.services)) {
		s := t.services[name]
		if b.Len() > 0 {
			b.WriteString("   ")
		}
		b.WriteString(name + ":")
		for _, cluster := range slices.Sorted(maps.Keys(s.clusters)) {
			took := s.clusters[cluster]
			slices.Sort(took)
			fmt.Fprintf(&b, " %s x%d %.1f ms", cluster, len(took), took[len(took)/2].Seconds()*1000)
		}
		for _, e := range slices.Sorted(maps.Keys(s.errors)) {
			fmt.Fprintf(&b, " FAILED x%d (%s)", s.errors[e], e)
		}
	}
	t.services = nil
	return b.String()
}

func shortError(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 && len(s) > 60 {
		s = s[i+2:]
	}
	return s
}

// watchCalls calls every service all the time and prints a line a second, until
// ctx ends.
func watchCalls(ctx context.Context, caller *Caller, services []string, line func(string)) {
	var t tally
	var wg sync.WaitGroup
	defer wg.Wait()
	calls := time.NewTicker(callInterval)
	defer calls.Stop()
	lines := time.NewTicker(time.Second)
	defer lines.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lines.C:
			line(t.take())
		case <-calls.C:
			for _, s := range services {
				wg.Go(func() {
					start := time.Now()
					a, err := caller.Call(ctx, s)
					if ctx.Err() == nil {
						t.add(s, a, time.Since(start), err)
					}
				})
			}
		}
	}
}
