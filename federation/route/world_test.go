package route_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const own = catalog.ClusterName("aws-east")

var (
	billing = catalog.MustServiceName("billing.default")
	epoch   = time.Unix(1_800_000_000, 0).UTC()
	here    = catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "az1"}
)

// world is a table and its evidence under construction: billing.default with
// one HTTP port, hosted and imported as the test says.
type world struct {
	table    *route.Table
	evidence *route.Evidence
	live     *route.Live
}

func newWorld() *world {
	return &world{
		table: &route.Table{
			Format: route.TableFormat, Epoch: 3, Version: 7,
			Cluster: route.Cluster{
				Name: own, Locality: here.WithZone(""), ID: "spiffe://aws.test/isthmus/cluster/aws-east",
			},
			Federation: "127.0.0.1:7444",
			Services:   []route.Service{{Name: billing, Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}},
		},
		evidence: &route.Evidence{
			Now: epoch, Self: here,
			Links:     map[catalog.ClusterName]route.LinkEvidence{},
			Targets:   map[route.Target]route.TargetEvidence{},
			Endpoints: map[route.EndpointKey]route.EndpointEvidence{},
		},
		live: route.NewLive(),
	}
}

func (w *world) service() *route.Service { return &w.table.Services[0] }

// local adds n own endpoints in a zone, named ZONE-0, ZONE-1, ...
func (w *world) local(zone string, n int) *world {
	s := w.service()
	for i := range n {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("%s-%d", zone, i), Port: "http",
			Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(len(s.Endpoints) >> 8), byte(len(s.Endpoints))}), 8080),
			Locality: here.WithZone(zone), Weight: 1, Health: catalog.Passing,
		})
	}
	return w
}

// peer adds a cluster with a link of that RTT and an offer of ready and total.
func (w *world) peer(name, place string, rtt time.Duration, ready, total uint32) *world {
	l, err := catalog.ParseLocality(place)
	if err != nil {
		panic(err)
	}
	c := catalog.ClusterName(name)
	w.table.Peers = append(w.table.Peers, route.Peer{
		Name: c, Locality: l, HeardAt: epoch, ID: "spiffe://" + name + ".test/isthmus/cluster/" + name,
		Asserts: []policy.IDPattern{policy.IDPattern("spiffe://" + name + ".test/*")},
	})
	slices.SortFunc(w.table.Peers, func(a, b route.Peer) int { return compareText(a.Name, b.Name) })
	w.evidence.Links[c] = route.LinkEvidence{Up: true, Since: epoch.Add(-time.Hour), RTT: rtt}
	if total > 0 {
		s := w.service()
		s.Remote = append(s.Remote, route.Remote{
			Cluster: c, Name: billing, Ports: slices.Clone(s.Ports),
			Rows: []catalog.SummaryRow{{Port: "http", Ready: ready, Total: total}},
		})
		slices.SortFunc(s.Remote, func(a, b route.Remote) int { return compareText(a.Cluster, b.Cluster) })
	}
	return w
}

func compareText[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *world) policy(t policy.Traffic) *world {
	t.Name, t.Services = "billing", []policy.ServicePattern{"billing.default"}
	w.service().Traffic = &t
	return w
}

func (w *world) link(c catalog.ClusterName, change func(*route.LinkEvidence)) *world {
	l := w.evidence.Links[c]
	change(&l)
	w.evidence.Links[c] = l
	return w
}

func (w *world) down(clusters ...catalog.ClusterName) *world {
	for _, c := range clusters {
		w.link(c, func(l *route.LinkEvidence) { l.Up = false })
	}
	return w
}

func (w *world) controlLost(c catalog.ClusterName, heard time.Time) *world {
	for i := range w.table.Peers {
		if p := &w.table.Peers[i]; p.Name == c {
			p.ControlLost, p.HeardAt = true, heard
		}
	}
	return w
}

// sick marks own endpoints as failing on the data path.
func (w *world) sick(ids ...string) *world {
	for _, id := range ids {
		w.evidence.Endpoints[endpointKey(id)] = route.EndpointEvidence{Reason: "connect refused", Since: epoch.Add(-time.Second)}
	}
	return w
}

func (w *world) target(c catalog.ClusterName, te route.TargetEvidence) *world {
	w.evidence.Targets[target(c)] = te
	return w
}

func (w *world) compile() *route.Plan { return route.Compile(w.table, w.evidence, w.live) }

func target(c catalog.ClusterName) route.Target {
	return route.Target{Service: billing, Port: "http", Cluster: c}
}

func endpointKey(id string) route.EndpointKey {
	return route.EndpointKey{Service: billing, Port: "http", ID: id}
}

// request n of a series: its random number spreads over the whole range.
func request(n int) *route.Request {
	return &route.Request{Service: billing, Random: uint64(n+1) * 0x9e3779b97f4a7c15, NowNanos: epoch.UnixNano()}
}

// count picks n times and counts what was chosen: clusters, or for the own one
// CLUSTER/ENDPOINT's zone by the endpoint's name; a status other than ok counts
// under its word.
func count(p *route.Plan, n int, change func(*route.Request)) map[string]int {
	out := map[string]int{}
	for i := range n {
		r := request(i)
		if change != nil {
			change(r)
		}
		c, _ := p.Pick(r)
		out[word(c)]++
	}
	return out
}

func word(c route.Choice) string {
	switch {
	case c.Status != route.OK:
		return c.Status.String()
	case c.Endpoint != nil:
		return c.Endpoint.ID
	default:
		return string(c.Target.Cluster)
	}
}

func wantShare(t testing.TB, got map[string]int, want map[string]float64, tolerance float64) {
	t.Helper()
	n := 0
	for _, k := range got {
		n += k
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q was chosen %d times of %d, want never", name, got[name], n)
		}
	}
	for name, share := range want {
		if have := float64(got[name]) / float64(n); have < share-tolerance || have > share+tolerance {
			t.Errorf("%q has a share of %.3f, want %.3f +- %.3f (all: %v)", name, have, share, tolerance, got)
		}
	}
}

// loads are the tiers' shares of calls in percent.
func loads(l *route.Ledger) []float64 {
	out := make([]float64, len(l.Tiers))
	for i := range l.Tiers {
		out[i] = l.Tiers[i].Load
	}
	return out
}

// shape is the clusters of each tier: "a,b | c".
func shape(l *route.Ledger) string {
	s := ""
	for i := range l.Tiers {
		if i > 0 {
			s += " | "
		}
		for k, c := range l.Tiers[i].Candidates {
			if k > 0 {
				s += ","
			}
			s += string(c.Cluster)
			if c.Zone != "" {
				s += "/" + c.Zone
			}
		}
	}
	return s
}

func reasons(l *route.Ledger) map[string]route.Reason {
	out := map[string]route.Reason{}
	for _, x := range l.Excluded {
		key := string(x.Cluster)
		if x.Endpoint != "" {
			key = x.Endpoint
		}
		out[key] = x.Reason
	}
	return out
}
