package exchange_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"pgregory.net/rapid"
)

func summary(service string, ready int) *catalog.Summary {
	return &catalog.Summary{
		Service: name(service), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
		Rows: []catalog.SummaryRow{{Port: "http", Ready: uint32(ready), Total: 9}},
	}
}

func gateway(n string) catalog.Gateway {
	return catalog.Gateway{Name: n, ID: peerID + "/gateway/" + n, Addresses: []string{n + ".example.org:7443"}}
}

func state(services ...*catalog.Summary) exchange.State {
	return exchange.State{Services: services, Gateways: []catalog.Gateway{gateway("gw2"), gateway("gw1")}}
}

func TestFeedTellsWhatChanged(t *testing.T) {
	f := exchange.NewFeed("gcp", 7)
	web, db := summary("web.shop", 1), summary("db.shop", 2)
	if changed, err := f.Set(state(web, db)); !changed || err != nil {
		t.Fatal(changed, err)
	}
	types := func(lines []string) (out []string) {
		for _, l := range lines {
			e, err := exchange.ParseEvent([]byte(l))
			if err != nil {
				t.Fatal(err)
			}
			text := string(e.Type)
			if e.Delta {
				text += fmt.Sprintf("+%d", e.Since)
			}
			out = append(out, text+e.Name)
		}
		return out
	}
	v1 := f.At()
	if got, want := types(f.Since(exchange.Position{}, false)), []string{"begin", "conflicts", "roster", "service", "service", "sync"}; !slices.Equal(got, want) {
		t.Errorf("first: %v, want %v", got, want)
	}
	if got, want := types(f.Since(v1, false)), []string{"begin+1", "sync"}; !slices.Equal(got, want) {
		t.Errorf("up to date: %v, want %v", got, want)
	}
	for label, same := range map[string]exchange.State{
		"same pointers": state(web, db), "another order": state(db, web), "equal values": state(summary("db.shop", 2), summary("web.shop", 1)),
	} {
		if changed, err := f.Set(same); changed || err != nil || f.At() != v1 {
			t.Errorf("%s: changed %v, %v", label, changed, err)
		}
	}
	if changed, _ := f.Set(state(summary("web.shop", 5))); !changed {
		t.Fatal("no change")
	}
	if got, want := types(f.Since(v1, false)), []string{"begin+1", "removedb.shop", "service", "sync"}; !slices.Equal(got, want) {
		t.Errorf("after a change: %v, want %v", got, want)
	}
	if got, want := types(f.Since(v1, true)), []string{"begin", "conflicts", "roster", "service", "sync"}; !slices.Equal(got, want) {
		t.Errorf("full: %v, want %v", got, want)
	}
	withBundle := state(summary("web.shop", 5))
	withBundle.Bundle = json.RawMessage(`{"keys": []}`)
	if changed, _ := f.Set(withBundle); !changed {
		t.Fatal("no change")
	}
	v3 := f.At()
	if changed, _ := f.Set(state(summary("web.shop", 5))); !changed {
		t.Fatal("the bundle is gone and that is no change")
	}
	if got, want := types(f.Since(v3, false)), []string{"begin", "conflicts", "roster", "service", "sync"}; !slices.Equal(got, want) {
		t.Errorf("without the bundle: %v, want %v", got, want)
	}
	// Another process, restored from a backup, knows less than the listener.
	g := exchange.NewFeed("gcp", 3)
	if _, err := g.Set(state(web)); err != nil {
		t.Fatal(err)
	}
	first := g.Since(v3, false)
	if g.At().Epoch != 8 || types(first)[0] != "begin" {
		t.Errorf("restored: epoch %d, want 8", g.At().Epoch)
	}
}

func TestFeedRefusesWhatAListenerWould(t *testing.T) {
	f := exchange.NewFeed("gcp", 1)
	if _, err := f.Set(state(summary("web.shop", 1))); err != nil {
		t.Fatal(err)
	}
	at := f.At()
	var many []*catalog.Summary
	for i := range exchange.DefaultLimits().Services + 1 {
		many = append(many, summary(fmt.Sprintf("s%d.shop", i), 1))
	}
	bad := summary("x.shop", 10) // more ready than there are
	var conflicts []merge.Conflict
	var gateways []catalog.Gateway
	for i := range 1001 {
		conflicts = append(conflicts, merge.Conflict{Service: name("a.b")})
		gateways = append(gateways, gateway(fmt.Sprintf("g%d", i)))
	}
	for label, s := range map[string]exchange.State{
		"twice":          state(summary("a.b", 1), summary("a.b", 2)),
		"twice the same": state(slices.Repeat([]*catalog.Summary{summary("a.b", 1)}, 2)...),
		"invalid":        state(bad),
		"reserved":       state(&catalog.Summary{Service: catalog.FederationService("gcp"), Ports: bad.Ports}),
		"too many":       state(many...),
		"gateways":       {Gateways: gateways},
		"bad gateway":    {Gateways: []catalog.Gateway{{Name: "x"}}},
		"conflicts":      {Conflicts: conflicts},
		"bad bundle":     {Bundle: json.RawMessage(`{`)},
		"big bundle":     {Bundle: json.RawMessage(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`)},
	} {
		if _, err := f.Set(s); err == nil || f.At() != at {
			t.Errorf("%s: error %v, position %v", label, err, f.At())
		}
	}
}

func TestFeedForgetsOldRemovals(t *testing.T) {
	f := exchange.NewFeed("gcp", 1)
	set := func(s ...*catalog.Summary) exchange.Position {
		t.Helper()
		if _, err := f.Set(state(s...)); err != nil {
			t.Fatal(err)
		}
		return f.At()
	}
	keep := summary("keep.shop", 1)
	old := set(keep, summary("early.shop", 1))
	var many []*catalog.Summary
	for i := range 100 {
		many = append(many, summary(fmt.Sprintf("s%d.shop", i), 1))
	}
	var late exchange.Position
	for range exchange.MaxTombs/100 + 2 {
		late = set(append(many, keep)...)
		set(keep)
	}
	if first := f.Since(old, false)[0]; strings.Contains(first, "delta") {
		t.Errorf("removals are forgotten, and yet a delta is told: %s", first)
	}
	if first := f.Since(late, false)[0]; !strings.Contains(first, "delta") {
		t.Errorf("a listener that missed little gets everything: %s", first)
	}
}

// world is a feed with its history, and a listener.
type world struct {
	t       *rapid.T
	feed    *exchange.Feed
	applier *exchange.Applier
	// history is what was ever true at each position: a process that lost its
	// memory begins with a position that another one has used.
	history  map[exchange.Position]map[string]bool
	truth    string // what is true now
	current  exchange.State
	now      time.Time
	position exchange.Position
}

func (w *world) record() {
	var b strings.Builder
	services := slices.Clone(w.current.Services)
	slices.SortFunc(services, func(a, b *catalog.Summary) int { return a.Service.Compare(b.Service) })
	for _, s := range services {
		fmt.Fprintf(&b, " %s=%d", s.Service, s.Rows[0].Ready)
	}
	w.truth = b.String()
	if w.history[w.feed.At()] == nil {
		w.history[w.feed.At()] = map[string]bool{}
	}
	w.history[w.feed.At()][w.truth] = true
}

func (w *world) change() {
	var services []*catalog.Summary
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.x", "b.x", "c.x", "d.x"}), 0, 4, rapid.ID).Draw(w.t, "services") {
		services = append(services, summary(n, rapid.IntRange(0, 3).Draw(w.t, "ready")))
	}
	w.current = state(services...)
	if _, err := w.feed.Set(w.current); err != nil {
		w.t.Fatal(err)
	}
	w.record()
}

// check is what must hold after each line, whatever was delivered.
func (w *world) check() {
	s := w.applier.Snapshot()
	if s.Position().Before(w.position) {
		w.t.Fatalf("went back from %v to %v", w.position, s.Position())
	}
	w.position = s.Position()
	if s == nil {
		return
	}
	if got := w.held(); !w.history[s.Position()][got] {
		w.t.Fatalf("at %v the listener has %q, the truth was %v", s.Position(), got, w.history[s.Position()])
	}
}

func (w *world) held() string {
	var b strings.Builder
	for _, v := range w.applier.Snapshot().Services() {
		fmt.Fprintf(&b, " %s=%d", v.Service, v.Rows[0].Ready)
	}
	return b.String()
}

func (w *world) deliver(lines []string) {
	for _, l := range lines {
		w.now = w.now.Add(200 * time.Millisecond)
		if _, err := w.applier.Apply([]byte(l), w.now); err != nil {
			w.check()
			return
		}
		w.check()
	}
}

// Whatever a network, a crash or a restored backup does to the stream, a
// listener holds at each moment exactly what was true at its position, never
// goes back, and is right again after the first stream that arrives whole.
func TestExchangeConvergesAndIsNeverWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, feed: exchange.NewFeed("gcp", 1), applier: newApplier(), history: map[exchange.Position]map[string]bool{}, now: t0}
		w.change()
		var heard []string // everything that was ever on the wire
		for range rapid.IntRange(1, 12).Draw(t, "streams") {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				w.change()
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				w.feed = exchange.NewFeed("gcp", uint64(rapid.IntRange(1, 3).Draw(t, "remembered epoch")))
				w.change()
			}
			have, full := w.applier.Connected()
			if rapid.IntRange(0, 3).Draw(t, "asks wrongly") == 0 {
				have = exchange.Position{Epoch: uint64(rapid.IntRange(0, 3).Draw(t, "epoch")), Version: uint64(rapid.IntRange(0, 9).Draw(t, "version"))}
			}
			lines := w.feed.Since(have, full)
			w.record() // the epoch may have been raised
			lines = append(lines, w.feed.Heartbeat())
			heard = append(heard, lines...)
			switch rapid.IntRange(0, 4).Draw(t, "fault") {
			case 1: // cut anywhere
				lines = lines[:rapid.IntRange(0, len(lines)).Draw(t, "cut")]
			case 2: // lines lost, said twice, in another order
				lines = rapid.Permutation(lines).Draw(t, "order")
				lines = append(lines, lines[:rapid.IntRange(0, len(lines)).Draw(t, "again")]...)
			case 3: // an older stream again
				from := rapid.IntRange(0, len(heard)-1).Draw(t, "from")
				lines = heard[from:]
			}
			w.deliver(lines)
		}
		// The fault is over: at most a refusal or two, and all is well. A backup that
		// goes back once more is noticed at the first contact.
		for range 3 {
			have, full := w.applier.Connected()
			lines := w.feed.Since(have, full)
			w.record()
			w.deliver(append(lines, w.feed.Heartbeat()))
		}
		if w.applier.Snapshot().Position() != w.feed.At() {
			t.Fatalf("the listener is at %v, the feed at %v", w.applier.Snapshot().Position(), w.feed.At())
		}
		if w.held() != w.truth {
			t.Fatalf("in the end the listener has %q, the truth is %q", w.held(), w.truth)
		}
	})
}

// Every subset of the lines of two batches, and every such stream followed by
// all of it again: 2^k streams, each of them harmless.
func TestEverySubsetOfLinesIsHarmless(t *testing.T) {
	f := exchange.NewFeed("gcp", 1)
	truth := map[exchange.Position]string{{}: "0.0"}
	record := func() {
		a := newApplier()
		if _, err := feed(a, f.Since(exchange.Position{}, true), t0); err != nil {
			t.Fatal(err)
		}
		truth[f.At()] = show(a.Snapshot())
	}
	set := func(s ...*catalog.Summary) {
		if _, err := f.Set(state(s...)); err != nil {
			t.Fatal(err)
		}
		record()
	}
	set(summary("web.shop", 1), summary("db.shop", 1))
	v1 := f.At()
	lines := f.Since(exchange.Position{}, false)
	set(summary("web.shop", 2), summary("new.shop", 1))
	lines = append(lines, f.Since(v1, false)...)
	lines = append(lines, f.Heartbeat())
	if len(lines) > 14 {
		t.Fatalf("%d lines are too many for this test", len(lines))
	}
	applied := 0
	for subset := range 1 << len(lines) {
		a := newApplier()
		at := t0
		for _, again := range []bool{false, true} {
			a.Connected()
			for i, l := range lines {
				if !again && subset&(1<<i) == 0 {
					continue
				}
				at = at.Add(200 * time.Millisecond)
				before := a.Snapshot().Position()
				_, err := a.Apply([]byte(l), at)
				after := a.Snapshot()
				if after.Position().Before(before) || show(after) != truth[after.Position()] {
					t.Fatalf("subset %b, line %d: %s, the truth is %s", subset, i, show(after), truth[after.Position()])
				}
				if err != nil {
					break
				}
			}
		}
		if a.Snapshot().Position() == f.At() {
			applied++
		}
	}
	if applied == 0 {
		t.Error("no stream was ever applied")
	}
	t.Logf("%d streams of %d lines; %d ended at the feed's position", 1<<len(lines), len(lines), applied)
}
