package discovery_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// world is a small notation for snapshots: service to endpoint IDs; a "!" before
// an ID makes it critical.
type world map[string][]string

func (w world) snapshot(t testing.TB) *catalog.Snapshot {
	t.Helper()
	var services []*catalog.Service
	for name, ids := range w {
		s := &catalog.Service{
			Name:  catalog.MustServiceName(name),
			Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
		}
		for i, id := range ids {
			e := catalog.Endpoint{
				ID: id, Port: "http", Weight: 1, Health: catalog.Passing,
				Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
			}
			if id[0] == '!' {
				e.ID, e.Health = id[1:], catalog.Critical
			}
			s.Endpoints = append(s.Endpoints, e)
		}
		services = append(services, s)
	}
	s, err := catalog.NewSnapshot("test", services)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// show is the inverse; "?" marks quarantined endpoints.
func show(s *catalog.Snapshot) world {
	w := world{}
	for svc := range s.All() {
		ids := []string{}
		for _, e := range svc.Endpoints {
			id := e.ID
			if e.Health == catalog.Critical {
				id = "!" + id
			}
			if e.Quarantined {
				id = "?" + id
			}
			ids = append(ids, id)
		}
		slices.Sort(ids)
		w[svc.Name.Name()] = ids
	}
	return w
}

func ids(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%02d", prefix, i)
	}
	return out
}

type step struct {
	at    time.Duration // since the start
	read  world
	want  world
	fail  []discovery.EndpointKey
	allow []string // services to release
}

func key(service, id string) discovery.EndpointKey {
	return discovery.EndpointKey{Service: catalog.MustServiceName(service), ID: id}
}

func marked(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = "?" + id
	}
	return out
}

func TestGuard(t *testing.T) {
	const s = time.Second
	ten := ids("a", 10)
	twenty := world{"a": ten, "b": ids("b", 10)} // limit: 20 % of 20 = 4
	for name, steps := range map[string][]step{
		"the first read is effective, also when it is empty": {
			{0, world{}, world{}, nil, nil},
			{1 * s, world{"a": {"1"}}, world{"a": {"1"}}, nil, nil},
		},
		"few withdrawals pass at once": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{"a": ten[:6], "b": twenty["b"]}, world{"a": ten[:6], "b": twenty["b"]}, nil, nil},
		},
		"many are held, and what the same read adds is taken": {
			{0, twenty, twenty, nil, nil},
			{
				1 * s,
				world{"a": ten[:5], "b": twenty["b"], "c": {"new"}},
				world{"a": slices.Concat(marked(ten[5:]), ten[:5]), "b": twenty["b"], "c": {"new"}},
				nil, nil,
			},
		},
		"small steps within the window count together": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{"a": ten[:7], "b": twenty["b"]}, world{"a": ten[:7], "b": twenty["b"]}, nil, nil},
			{2 * s, world{"a": ten[:4], "b": twenty["b"]}, world{"a": slices.Concat(marked(ten[4:7]), ten[:4]), "b": twenty["b"]}, nil, nil},
		},
		"small steps in different windows pass": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{"a": ten[:7], "b": twenty["b"]}, world{"a": ten[:7], "b": twenty["b"]}, nil, nil},
			{62 * s, world{"a": ten[:4], "b": twenty["b"]}, world{"a": ten[:4], "b": twenty["b"]}, nil, nil},
		},
		"three reads over the window confirm": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{}, world{"a": marked(ten), "b": marked(twenty["b"])}, nil, nil},
			{21 * s, world{}, world{"a": marked(ten), "b": marked(twenty["b"])}, nil, nil},
			{41 * s, world{}, world{"a": marked(ten), "b": marked(twenty["b"])}, nil, nil},
			{61 * s, world{}, world{}, nil, nil},
		},
		"many reads at once do not confirm, nor does time with too few": {
			{0, world{"a": {"1"}}, world{"a": {"1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
		},
		"two reads over a long time do not confirm": {
			{0, world{"a": {"1"}}, world{"a": {"1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{999 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{1000 * s, world{}, world{}, nil, nil},
		},
		"a false answer that is taken back leaves no trace": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{}, world{"a": marked(ten), "b": marked(twenty["b"])}, nil, nil},
			{5 * s, twenty, twenty, nil, nil},
			{61 * s, world{"a": ten[:7], "b": twenty["b"]}, world{"a": ten[:7], "b": twenty["b"]}, nil, nil},
		},
		"the last endpoint of a service is held, the one before is not": {
			{0, world{"a": {"1", "2"}, "b": ids("b", 30)}, world{"a": {"1", "2"}, "b": ids("b", 30)}, nil, nil},
			{1 * s, world{"a": {"2"}, "b": ids("b", 30)}, world{"a": {"2"}, "b": ids("b", 30)}, nil, nil},
			{2 * s, world{"b": ids("b", 30)}, world{"a": {"?2"}, "b": ids("b", 30)}, nil, nil},
		},
		"the last usable endpoint is the last": {
			{0, world{"a": {"1", "!2"}}, world{"a": {"1", "!2"}}, nil, nil},
			{1 * s, world{"a": {"!2"}}, world{"a": {"!2", "?1"}}, nil, nil},
		},
		"critical passes, for all at once, and then the withdrawal of it": {
			{0, world{"a": {"1", "2"}}, world{"a": {"1", "2"}}, nil, nil},
			{1 * s, world{"a": {"!1", "!2"}}, world{"a": {"!1", "!2"}}, nil, nil},
			{2 * s, world{}, world{}, nil, nil},
		},
		"replaced instances are no withdrawal, however many": {
			{0, world{"a": ids("old", 10)}, world{"a": ids("old", 10)}, nil, nil},
			{1 * s, world{"a": ids("new", 10)}, world{"a": ids("new", 10)}, nil, nil},
		},
		"an endpoint that is replaced later": {
			{0, world{"a": {"1"}}, world{"a": {"1"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1"}}, nil, nil},
			{2 * s, world{"a": {"2"}}, world{"a": {"2"}}, nil, nil},
		},
		"a rolling restart of everything, one by one": {
			{0, world{"a": {"1", "2", "3"}}, world{"a": {"1", "2", "3"}}, nil, nil},
			{1 * s, world{"a": {"2", "3"}}, world{"a": {"2", "3"}}, nil, nil},
			{2 * s, world{"a": {"2", "3", "4"}}, world{"a": {"2", "3", "4"}}, nil, nil},
			{3 * s, world{"a": {"3", "4"}}, world{"a": {"3", "4"}}, nil, nil},
			{4 * s, world{"a": {"3", "4", "5"}}, world{"a": {"3", "4", "5"}}, nil, nil},
			{5 * s, world{"a": {"4", "5"}}, world{"a": {"4", "5"}}, nil, nil},
			{6 * s, world{"a": {"4", "5", "6"}}, world{"a": {"4", "5", "6"}}, nil, nil},
		},
		"the data path is a second witness": {
			{0, world{"a": {"1", "2"}}, world{"a": {"1", "2"}}, nil, nil},
			{1 * s, world{}, world{"a": {"?1", "?2"}}, nil, nil},
			{2 * s, nil, world{"a": {"?2"}}, []discovery.EndpointKey{key("a", "1"), key("a", "9"), key("x", "1")}, nil},
			{3 * s, nil, world{}, []discovery.EndpointKey{key("a", "2")}, nil},
		},
		"the data path alone withdraws nothing": {
			{0, world{"a": {"1"}}, world{"a": {"1"}}, nil, nil},
			{1 * s, nil, world{"a": {"1"}}, []discovery.EndpointKey{key("a", "1")}, nil},
		},
		"an operator releases one service, then all": {
			{0, twenty, twenty, nil, nil},
			{1 * s, world{}, world{"a": marked(ten), "b": marked(twenty["b"])}, nil, nil},
			{2 * s, nil, world{"b": marked(twenty["b"])}, nil, []string{"a"}},
			{3 * s, nil, world{}, nil, []string{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := discovery.NewGuard(discovery.GuardOptions{})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for i, st := range steps {
				switch {
				case st.read != nil:
					_, err = g.Offer(start.Add(st.at), st.read.snapshot(t))
				case st.fail != nil:
					_, err = g.Fail(st.fail...)
				default:
					var names []catalog.ServiceName
					for _, n := range st.allow {
						names = append(names, catalog.MustServiceName(n))
					}
					_, err = g.Release(names...)
				}
				if err != nil {
					t.Fatal(err)
				}
				want := maps.Clone(st.want)
				for k, v := range want {
					v = slices.Clone(v)
					slices.Sort(v)
					want[k] = v
				}
				if d := cmp.Diff(want, show(g.Effective())); d != "" {
					t.Fatalf("step %d: -want +got\n%s", i, d)
				}
				held := 0
				for range g.Quarantined() {
					held++
				}
				if held != g.Held() {
					t.Fatalf("step %d: %d are listed, %d held", i, held, g.Held())
				}
			}
		})
	}
}

func TestGuardKeepsThePortOfAHeldEndpoint(t *testing.T) {
	g, err := discovery.NewGuard(discovery.GuardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	svc := func(port string, n int) *catalog.Snapshot {
		s := &catalog.Service{Name: catalog.MustServiceName("a"), Ports: []catalog.Port{{Name: port, Protocol: catalog.TCP}}}
		for i := range n {
			s.Endpoints = append(s.Endpoints, catalog.Endpoint{
				ID: fmt.Sprint(port, i), Port: port, Weight: 1, Health: catalog.Unknown,
				Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(i+1)),
			})
		}
		snap, err := catalog.NewSnapshot("test", []*catalog.Service{s})
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	for _, read := range []*catalog.Snapshot{svc("old", 20), svc("new", 1)} {
		if _, err := g.Offer(now, read); err != nil {
			t.Fatal(err)
		}
	}
	got := g.Effective().Get(catalog.MustServiceName("a"))
	if len(got.Endpoints) != 21 || len(got.Ports) != 2 || got.Ports[0].Name != "new" {
		t.Fatalf("got %d endpoints and ports %v", len(got.Endpoints), got.Ports)
	}
	if got.Validate() != nil {
		t.Fatal(got.Validate())
	}
}

func TestGuardGoesOnFromADisk(t *testing.T) {
	first, err := discovery.NewGuard(discovery.GuardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	for _, w := range []world{{"a": {"1"}, "b": {"1"}}, {"b": {"1"}}} {
		if _, err := first.Offer(now, w.snapshot(t)); err != nil {
			t.Fatal(err)
		}
	}
	second, err := discovery.NewGuard(discovery.GuardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second.Seed(now, first.Effective())
	if second.Held() != 1 {
		t.Fatalf("%d are held after the restart", second.Held())
	}
	want := []world{
		{"a": {"?1"}, "b": {"?1"}}, {"a": {"?1"}, "b": {"?1"}}, {"a": {"?1"}, "b": {"?1"}}, {},
	}
	for i, at := range []time.Duration{0, 20, 40, 60} {
		if _, err := second.Offer(now.Add(at*time.Second), world{}.snapshot(t)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want[i], show(second.Effective())); d != "" {
			t.Fatalf("read %d: %s", i, d)
		}
	}
}

func TestGuardOptionsAreChecked(t *testing.T) {
	for _, o := range []discovery.GuardOptions{{Count: -1}, {Share: -0.1}, {Share: 1.1}, {Window: -1}, {Reads: -1}} {
		if _, err := discovery.NewGuard(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
