package exchange_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Both ends step by step: a full list, a delta, a heartbeat, what was kept on disk,
// and an exporter that has lost its memory and goes above its listener.
func TestStepByStep(t *testing.T) {
	now := time.Unix(1e9, 0)
	opts := exchange.ExporterOptions{Cluster: "a", Peer: func(*http.Request) (catalog.ClusterName, error) { return "", errors.New("none") }}
	exporter := func() *exchange.Exporter {
		e, err := exchange.NewExporter(opts)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := exporter()
	listener := exchange.ApplierOptions{Cluster: "a", ID: spiffeid.RequireFromString("spiffe://a.test/a")}
	l := exchange.NewApplier(listener)
	step := func(first bool) {
		t.Helper()
		now = now.Add(time.Second)
		have, full := l.Snapshot().Position(), false
		if first {
			have, full = l.Connected()
		}
		lines, at, err := e.Next("b", have, full, first)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			if _, err := l.Apply(bytes.TrimSuffix(line, []byte("\n")), now); err != nil {
				t.Fatal(err)
			}
		}
		if l.Snapshot().Position() != at {
			t.Errorf("listener at %v, feed at %v", l.Snapshot().Position(), at)
		}
	}
	if _, _, err := e.Next("b", exchange.Position{}, true, true); err == nil {
		t.Error("a peer that was set nothing is told something")
	}
	set := func(names ...string) {
		t.Helper()
		var s exchange.State
		for _, n := range names {
			s.Services = append(s.Services, &catalog.Summary{
				Service: catalog.MustServiceName(n), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
				Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: 1}},
			})
		}
		if err := e.Set("b", s); err != nil {
			t.Fatal(err)
		}
	}
	set("web.shop")
	step(true)
	set("web.shop", "cart.shop")
	step(false)
	step(false)
	if n := len(l.Snapshot().Services()); n != 2 {
		t.Fatalf("%d services", n)
	}
	kept, err := l.Kept(now)
	if err != nil {
		t.Fatal(err)
	}
	before := l.Snapshot().Position()
	l = exchange.NewApplier(listener)
	if heard, err := l.Restore(kept); err != nil || !heard.Equal(now) || l.Snapshot().Position() != before {
		t.Fatalf("restored: %v, heard at %v, %v", l.Snapshot().Position(), heard, err)
	}
	e = exporter() // its epochs are lost
	set("web.shop")
	step(true)
	if at := l.Snapshot().Position(); !before.Before(at) || at.Epoch <= before.Epoch || len(l.Snapshot().Services()) != 1 {
		t.Errorf("after the loss: %v with %d services, before %v", at, len(l.Snapshot().Services()), before)
	}
}
