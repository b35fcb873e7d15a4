package exchange_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"pgregory.net/rapid"
)

// ask returns the lines of one list, as a listener at a position gets them.
func (w *sharing) ask(peer catalog.ClusterName, have exchange.Position, full bool) []string {
	return w.exporter.Delta(peer, have, full)
}

// sharing is one exporter with several peers, and what each should be told.
type sharing struct {
	exporter *exchange.Exporter
	appliers map[catalog.ClusterName]*exchange.Applier
	told     map[catalog.ClusterName][]*catalog.Summary
	now      time.Time
}

// Whatever peers are told, together or apart, each listener holds what its peer
// is told, by deltas from wherever it stands.
func TestPeersThatShareAListAreToldTheirs(t *testing.T) {
	names := []catalog.ClusterName{"p", "q", "r"}
	rapid.Check(t, func(t *rapid.T) {
		e, err := exchange.NewExporter(exchange.ExporterOptions{
			Cluster: "gcp", Peer: func(*http.Request) (catalog.ClusterName, error) { return "p", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &sharing{exporter: e, appliers: map[catalog.ClusterName]*exchange.Applier{}, told: map[catalog.ClusterName][]*catalog.Summary{}, now: t0}
		var lists [][]*catalog.Summary
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			states := map[catalog.ClusterName]exchange.State{}
			for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID).Draw(t, "peers") {
				if len(lists) == 0 || rapid.IntRange(0, 2).Draw(t, "new list") == 0 {
					lists = append(lists, drawList(t))
				}
				list := lists[rapid.IntRange(max(0, len(lists)-3), len(lists)-1).Draw(t, "list")]
				states[n] = exchange.State{Services: list, Gateways: []catalog.Gateway{gateway(rapid.SampledFrom([]string{"gw1", "gw2"}).Draw(t, "gateway"))}}
				w.told[n] = list
			}
			if errs := e.SetAll(states); len(errs) > 0 {
				t.Fatal(errs)
			}
			for _, n := range names {
				if w.told[n] != nil && rapid.Bool().Draw(t, "listens") {
					w.listen(t, n)
				}
			}
		}
		for n := range w.told {
			w.listen(t, n)
		}
	})
}

func drawList(t *rapid.T) (out []*catalog.Summary) {
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.x", "b.x", "c.x", "d.x"}), 0, 4, rapid.ID).Draw(t, "services") {
		out = append(out, summary(n, rapid.IntRange(0, 3).Draw(t, "ready")))
	}
	return out
}

func (w *sharing) listen(t *rapid.T, n catalog.ClusterName) {
	a := w.appliers[n]
	if a == nil {
		a = newApplier()
		w.appliers[n] = a
	}
	have, full := a.Connected()
	for _, l := range w.ask(n, have, full) {
		w.now = w.now.Add(time.Second)
		if _, err := a.Apply([]byte(l), w.now); err != nil {
			t.Fatalf("%s at %v: %s: %v", n, have, l, err)
		}
	}
	got, want := map[string]uint32{}, map[string]uint32{}
	for _, s := range a.Snapshot().Services() {
		got[s.Service.String()] = s.Rows[0].Ready
	}
	for _, s := range w.told[n] {
		want[s.Service.String()] = s.Rows[0].Ready
	}
	if !maps.Equal(got, want) {
		t.Fatalf("%s has %v, is told %v", n, got, want)
	}
}

// A change that many peers are told is kept once.
func TestPeersOfOneListShareIt(t *testing.T) {
	e, err := exchange.NewExporter(exchange.ExporterOptions{
		Cluster: "gcp", Peer: func(*http.Request) (catalog.ClusterName, error) { return "p", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	one := []*catalog.Summary{summary("a.x", 1), summary("b.x", 1)}
	states := map[catalog.ClusterName]exchange.State{}
	for i := range 50 {
		states[catalog.ClusterName(fmt.Sprintf("p%d", i))] = exchange.State{Services: one}
	}
	set := func() {
		t.Helper()
		if errs := e.SetAll(states); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	set()
	if n := e.Lists(); n != 1 {
		t.Fatalf("%d lists for one content", n)
	}
	at := e.Position("p3")
	next := slices.Clone(one)
	next[1] = summary("b.x", 0)
	for n := range states {
		states[n] = exchange.State{Services: next}
	}
	set()
	if e.Position("p3") != e.Position("p9") || !e.OneBatch("p3", "p9", at) {
		t.Error("what two peers lack alike is written twice")
	}
	two := slices.Clone(one)
	two[0] = summary("a.x", 2)
	states["p7"] = exchange.State{Services: two}
	set()
	if n := e.Lists(); n != 2 {
		t.Fatalf("%d lists for two contents", n)
	}
	bad := slices.Clone(two)
	bad[1] = summary("b.x", 10) // more ready than there are
	before := e.Position("p7")
	if err := e.Set("p7", exchange.State{Services: bad}); err == nil || e.Position("p7") != before {
		t.Fatalf("a bad list: %v, at %v", err, e.Position("p7"))
	}
}
