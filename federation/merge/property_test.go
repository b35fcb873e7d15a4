package merge_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"pgregory.net/rapid"
)

var (
	someNames     = []string{"web.a", "web.b", "db.a"}
	somePorts     = []string{"http", "raw"}
	someProtocols = []catalog.Protocol{catalog.HTTP, catalog.TCP}
	someClusters  = []catalog.ClusterName{"p", "q", "r", "s"}
)

func drawPorts(t *rapid.T) []catalog.Port {
	var out []catalog.Port
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(somePorts), 1, 2, rapid.ID).Draw(t, "ports") {
		out = append(out, catalog.Port{Name: n, Protocol: rapid.SampledFrom(someProtocols).Draw(t, "protocol")})
	}
	slices.SortFunc(out, func(a, b catalog.Port) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func drawSnapshot(t *rapid.T, source string) *catalog.Snapshot {
	var services []*catalog.Service
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(someNames), 0, 3, rapid.ID).Draw(t, "services") {
		s := &catalog.Service{Name: name(n), Ports: drawPorts(t)}
		for i := range rapid.IntRange(0, 3).Draw(t, "endpoints") {
			transport := rapid.SampledFrom([]catalog.Transport{catalog.Plain, catalog.MTLS}).Draw(t, "transport")
			s.Endpoints = append(s.Endpoints, catalog.Endpoint{
				ID:        fmt.Sprint(i),
				Port:      rapid.SampledFrom(s.Ports).Draw(t, "port").Name,
				Address:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))}), 80),
				Weight:    uint32(rapid.IntRange(1, 3).Draw(t, "weight")),
				Health:    rapid.SampledFrom(catalog.Healths()).Draw(t, "health"),
				Transport: transport, ServerID: serverID[transport],
				Labels: rapid.SampledFrom([]map[string]string{nil, {"v": "1"}, {"v": "2", "w": source}}).Draw(t, "labels"),
			})
		}
		services = append(services, s)
	}
	snap, err := catalog.NewSnapshot(source, services)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

var serverID = map[catalog.Transport]string{catalog.MTLS: "spiffe://td.consul/ns/default/dc/dc1/svc/web"}

func drawPeer(t *rapid.T, c catalog.ClusterName) merge.Peer {
	p := merge.Peer{Cluster: c, ControlLost: rapid.Bool().Draw(t, "lost")}
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(someNames), 0, 3, rapid.ID).Draw(t, "offers") {
		s := &catalog.Summary{Service: name(n), Ports: drawPorts(t)}
		s.Rows = []catalog.SummaryRow{{Port: s.Ports[0].Name, Ready: 1, Total: uint32(rapid.IntRange(1, 9).Draw(t, "total"))}}
		p.Summaries = append(p.Summaries, s)
	}
	return p
}

// drawImport is a pure function of peer and name, drawn once.
func drawImport(t *rapid.T) func(catalog.ClusterName, catalog.ServiceName) (merge.Import, bool) {
	type key struct {
		c catalog.ClusterName
		n catalog.ServiceName
	}
	rules := map[key]merge.Import{}
	for _, c := range someClusters {
		for _, n := range someNames {
			if rapid.IntRange(0, 3).Draw(t, "import") == 0 {
				continue
			}
			rules[key{c, name(n)}] = merge.Import{
				Rule: "r", As: name(rapid.SampledFrom([]string{n, n, n, "web.a"}).Draw(t, "as")), Mapped: rapid.Bool().Draw(t, "mapped"), MaxCapacity: uint64(rapid.IntRange(0, 2).Draw(t, "cap")),
			}
		}
	}
	return func(c catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
		r, ok := rules[key{c, n}]
		return r, ok
	}
}

func drawInput(t *rapid.T) merge.Input {
	in := merge.Input{
		Cluster: "here",
		Sources: []merge.Source{{Name: "s1", Snapshot: drawSnapshot(t, "s1")}, {Name: "s2", Snapshot: drawSnapshot(t, "s2")}},
		Order:   rapid.SliceOfNDistinct(rapid.SampledFrom(someClusters), 0, 3, rapid.ID).Draw(t, "order"),
		Import:  drawImport(t),
	}
	for _, c := range rapid.SliceOfNDistinct(rapid.SampledFrom(someClusters), 0, 4, rapid.ID).Draw(t, "peers") {
		in.Peers = append(in.Peers, drawPeer(t, c))
	}
	return in
}

func text(t *rapid.T, v *merge.View) string {
	var b strings.Builder
	for s := range v.All() {
		j, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(j)
		b.WriteByte('\n')
	}
	return b.String()
}

func shuffled(t *rapid.T, in merge.Input) merge.Input {
	out := in
	out.Peers = rapid.Permutation(in.Peers).Draw(t, "peers in another order")
	for i := range out.Peers {
		out.Peers[i].Summaries = rapid.Permutation(out.Peers[i].Summaries).Draw(t, "summaries in another order")
	}
	return out
}

func TestMergeDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := mustJSON(t, in.Peers) + mustJSON(t, in.Sources)
		want := merge.Merge(in)
		got := merge.Merge(shuffled(t, in))
		if a, b := text(t, want), text(t, got); a != b || !want.Equal(got) {
			t.Fatalf("another order, another view:\n%s\n%s", a, b)
		}
		if mustJSON(t, in.Peers)+mustJSON(t, in.Sources) != before {
			t.Fatal("the inputs were changed")
		}
	})
}

func mustJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		v := merge.Merge(in)
		again := merge.Update(v, in)
		for s := range again.All() {
			if v.Get(s.Name) != s {
				t.Fatalf("%s was built anew from the same inputs", s.Name)
			}
		}
		in.Peers = append(in.Peers, in.Peers...) // each peer said twice
		if twice := merge.Merge(in); text(t, twice) != text(t, v) {
			t.Fatal("an input that is given twice changes the view")
		}
	})
}

// Origins may be added one by one, in any order and any grouping: the view is
// that of all of them.
func TestMergeIsAssociativeOverOrigins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawInput(t)
		want := merge.Merge(all)
		in := all
		in.Peers = nil
		v := merge.Merge(in)
		left := rapid.Permutation(all.Peers).Draw(t, "arrival")
		for len(left) > 0 {
			n := rapid.IntRange(1, len(left)).Draw(t, "at once")
			in.Peers = append(slices.Clone(in.Peers), left[:n]...)
			left = left[n:]
			v = merge.Update(v, in)
		}
		if a, b := text(t, want), text(t, v); a != b || !want.Equal(v) {
			t.Fatalf("step by step differs:\n%s\n%s", a, b)
		}
	})
}

// Update from any earlier view is Merge.
func TestUpdateIsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prev := merge.Merge(drawInput(t))
		in := drawInput(t)
		if a, b := text(t, merge.Merge(in)), text(t, merge.Update(prev, in)); a != b {
			t.Fatalf("update differs from merge:\n%s\n%s", a, b)
		}
	})
}

// Whatever one peer says, the own endpoints and the offers of the others stay
// as they are.
func TestNoPeerChangesWhatIsNotItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		in.Peers = slices.DeleteFunc(in.Peers, func(p merge.Peer) bool { return p.Cluster == "p" })
		without := merge.Merge(in)
		in.Peers = append(in.Peers, drawPeer(t, "p"))
		with := merge.Merge(in)
		for s := range without.All() {
			w := with.Get(s.Name)
			if w == nil {
				t.Fatalf("%s is gone", s.Name)
			}
			if mustJSON(t, s.Local) != mustJSON(t, w.Local) {
				t.Fatalf("%s: own endpoints changed", s.Name)
			}
			others := slices.DeleteFunc(slices.Clone(w.Offers), func(o merge.Offer) bool { return o.Cluster == "p" })
			if len(s.Offers)+len(others) > 0 && mustJSON(t, s.Offers) != mustJSON(t, others) {
				t.Fatalf("%s: other offers changed:\n%s\n%s", s.Name, mustJSON(t, s.Offers), mustJSON(t, others))
			}
			if s.Local != nil {
				for _, p := range s.Local.Ports {
					if got, _ := catalog.FindPort(w.Ports, p.Name); got != p {
						t.Fatalf("%s: own port %v became %v", s.Name, p, got)
					}
				}
			}
		}
	})
}

// The winner of every field is the first in the importer's order, read off the
// inputs themselves.
func TestPortsAgreeWithTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		v := merge.Merge(in)
		for s := range v.All() {
			rank := func(c catalog.ClusterName) string {
				if i := slices.Index(in.Order, c); i >= 0 {
					return fmt.Sprintf("%03d", i)
				}
				return "999" + string(c)
			}
			offers := slices.Clone(s.Offers)
			slices.SortFunc(offers, func(a, b merge.Offer) int { return strings.Compare(rank(a.Cluster), rank(b.Cluster)) })
			want := map[string]catalog.Protocol{}
			for _, o := range slices.Backward(offers) {
				for _, p := range o.Ports {
					want[p.Name] = p.Protocol
				}
			}
			if s.Local != nil {
				for _, p := range s.Local.Ports {
					want[p.Name] = p.Protocol
				}
			}
			got := map[string]catalog.Protocol{}
			for _, p := range s.Ports {
				got[p.Name] = p.Protocol
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s: ports %v, want %v", s.Name, got, want)
			}
		}
	})
}
