package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"pgregory.net/rapid"
)

const clusterID = "spiffe://east.test/isthmus/cluster/east"

var (
	serviceNames = []string{"db.a", "web.a", "web-2.a", "web.b"}
	peerNames    = []catalog.ClusterName{"p", "q", "r"}
)

// drawTable is a table that keeps some parts of the one before, by memory or by
// value.
func drawTable(t *rapid.T, before *route.Table) *route.Table {
	next := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1, Federation: rapid.SampledFrom([]string{"h:1", "h:2"}).Draw(t, "federation"),
		Cluster: route.Cluster{Name: "east", ID: clusterID, Locality: catalog.Locality{Cloud: rapid.SampledFrom([]string{"aws", "gcp"}).Draw(t, "cloud")}},
	}
	if before != nil {
		next.Version = before.Version + rapid.Uint64Range(1, 3).Draw(t, "versions")
	}
	for _, n := range peerNames {
		if rapid.Bool().Draw(t, "peer") {
			next.Peers = append(next.Peers, drawPeer(t, n))
		}
	}
	next.Joining = rapid.Bool().Draw(t, "joining")
	if rapid.Bool().Draw(t, "intentions") {
		next.Intentions = []policy.Intention{{Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "intention")}}
	}
	for _, n := range slices.SortedFunc(slices.Values(names()), catalog.ServiceName.Compare) {
		switch rapid.IntRange(0, 4).Draw(t, "service") {
		case 0: // none
		case 1, 2:
			if i := at(before, n); i >= 0 {
				next.Services = append(next.Services, before.Services[i])
			}
		case 3:
			if i := at(before, n); i >= 0 {
				next.Services = append(next.Services, copied(t, before.Services[i]))
			}
		default:
			next.Services = append(next.Services, drawService(t, n))
		}
	}
	return next
}

func names() (out []catalog.ServiceName) {
	for _, n := range serviceNames {
		out = append(out, catalog.MustServiceName(n))
	}
	return out
}

func at(table *route.Table, n catalog.ServiceName) int {
	if table == nil {
		return -1
	}
	return slices.IndexFunc(table.Services, func(s route.Service) bool { return s.Name == n })
}

func copied(t *rapid.T, s route.Service) (out route.Service) {
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Endpoints) > 0 && rapid.Bool().Draw(t, "weight") {
		out.Endpoints[0].Weight++
	}
	return out
}

func drawPeer(t *rapid.T, n catalog.ClusterName) route.Peer {
	p := route.Peer{Name: n, ID: "spiffe://x.test/" + string(n), Asserts: []policy.IDPattern{"spiffe://x.test/*"}}
	p.MaxPriority = rapid.SampledFrom([]policy.CallPriority{"", policy.DefaultPriority, policy.LowPriority}).Draw(t, "priority")
	if rapid.Bool().Draw(t, "lost") {
		p.ControlLost, p.HeardAt = true, time.Unix(1_700_000_000, 17).UTC()
	}
	if rapid.Bool().Draw(t, "bundle") {
		p.Bundle = json.RawMessage(`{"keys": [], "x": "<&>"}`)
	}
	if rapid.Bool().Draw(t, "gateways") {
		p.Gateways = []catalog.Gateway{{Name: "gw", ID: p.ID + "/gateway/gw", Addresses: []string{"h:7443"}, Draining: rapid.Bool().Draw(t, "draining")}}
	}
	return p
}

func drawService(t *rapid.T, n catalog.ServiceName) route.Service {
	http := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	s := route.Service{Name: n, Ports: http}
	if rapid.Bool().Draw(t, "grpc") {
		s.Ports = []catalog.Port{{Name: "http", Protocol: catalog.GRPC}}
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := catalog.Endpoint{
			ID: fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "id")), Port: "http", Weight: 1, Health: rapid.SampledFrom(catalog.Healths()).Draw(t, "health"),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(rapid.IntRange(1, 3).Draw(t, "address"))}), 80),
			Labels:  rapid.SampledFrom([]map[string]string{nil, {"v": "1"}, {"v": "2", "w": "3"}}).Draw(t, "labels"),
			Source:  "s", Quarantined: rapid.Bool().Draw(t, "held"),
		}
		if rapid.Bool().Draw(t, "mtls") {
			e.Transport, e.ServerID = catalog.MTLS, "spiffe://td.consul/svc/"+rapid.SampledFrom([]string{"a", "b"}).Draw(t, "server")
		}
		s.Endpoints = append(s.Endpoints, e)
		if e.Quarantined {
			s.Quarantined = append(s.Quarantined, e.ID)
		}
	}
	slices.SortFunc(s.Endpoints, catalog.Endpoint.Compare)
	s.ExportedTo = rapid.SampledFrom([][]catalog.ClusterName{nil, {"p"}, {"p", "q"}}).Draw(t, "exported to")
	for _, c := range peerNames {
		if rapid.Bool().Draw(t, "remote") {
			s.Remote = append(s.Remote, route.Remote{Cluster: c, Name: n, Ports: http, Rows: []catalog.SummaryRow{{Port: "http", Ready: uint32(rapid.IntRange(0, 2).Draw(t, "ready")), Total: 2}}})
		}
	}
	if rapid.Bool().Draw(t, "traffic") {
		s.Traffic = new(policy.Traffic{Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "policy"), Pin: "p"}.Filled())
	}
	return s
}

// fataler is what testing.T and rapid.T have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func text(t fataler, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// follow applies lines as a gateway reads them, and returns the last table.
func follow(f *mesh.Follower, lines [][]byte) (last *route.Table, err error) {
	for _, l := range lines {
		var line mesh.TableLine
		if err := json.Unmarshal(l, &line); err != nil {
			return last, err
		}
		table, err := f.Apply(line.Patch)
		if err != nil {
			return last, err
		}
		if table != nil {
			last = table
		}
	}
	return last, nil
}

// Whatever tables follow each other, and whenever a gateway looks, what it makes
// of the patches is the table that was published, and what did not change is
// shared with the table before.
func TestPatchesLeadToTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := mesh.NewPublisher()
		f, err := mesh.NewFollower(clusterID, nil)
		if err != nil {
			t.Fatal(err)
		}
		var table *route.Table
		for range rapid.IntRange(1, 8).Draw(t, "tables") {
			table = drawTable(t, table)
			if err := p.Publish(table); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "busy") == 0 {
				continue
			}
			before := f.Table()
			epoch, version := f.Connected()
			got, err := follow(f, p.Lines(epoch, version))
			if err != nil {
				t.Fatal(err)
			}
			want, have := text(t, table), text(t, got)
			if want != have {
				t.Fatalf("published %s\nmade     %s", want, have)
			}
			checkShared(t, before, got)
			// The same from the disk: the digest of what was decoded is the same.
			again, err := mesh.NewFollower(clusterID, decoded(t, got))
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "restart") {
				f = again
			}
		}
	})
}

func decoded(t *rapid.T, table *route.Table) *route.Table {
	out := new(route.Table)
	if err := json.Unmarshal([]byte(text(t, table)), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func checkShared(t *rapid.T, before, after *route.Table) {
	for i := range after.Services {
		s := &after.Services[i]
		k := at(before, s.Name)
		if k < 0 {
			continue
		}
		old := &before.Services[k]
		if reflect.DeepEqual(old.Endpoints, s.Endpoints) && len(s.Endpoints) > 0 && &old.Endpoints[0] != &s.Endpoints[0] && reflect.DeepEqual(old, s) {
			t.Fatalf("%s did not change and is not shared", s.Name)
		}
	}
}

// A line that is lost, or that says something else, is found by the last one;
// then everything is asked for, and all is well.
func TestDriftIsFoundAndHealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := mesh.NewPublisher()
		first := drawTable(t, nil)
		if err := p.Publish(first); err != nil {
			t.Fatal(err)
		}
		f, err := mesh.NewFollower(clusterID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := follow(f, p.Lines(0, 0)); err != nil {
			t.Fatal(err)
		}
		second := drawTable(t, first)
		second.Federation = "other:1"
		if err := p.Publish(second); err != nil {
			t.Fatal(err)
		}
		lines := p.Lines(1, first.Version)
		var bad mesh.TableLine
		if err := json.Unmarshal(lines[len(lines)-1], &bad); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "left out") {
			bad.Patch.Head = nil
		} else {
			bad.Patch.Digest = "00"
		}
		before := f.Table()
		if _, err := f.Apply(bad.Patch); !errors.Is(err, mesh.ErrDrift) {
			t.Fatalf("a bad patch: %v", err)
		}
		if f.Table() != before {
			t.Fatal("a bad patch changed the table")
		}
		epoch, version := f.Connected()
		if epoch != 0 || version != 0 {
			t.Fatalf("after drift (%d, %d) is asked for", epoch, version)
		}
		got, err := follow(f, p.Lines(epoch, version))
		if err != nil || text(t, got) != text(t, second) {
			t.Fatalf("after drift: %v, %v", got, err)
		}
	})
}

// A gateway that lags more than is kept gets everything, in one patch of many
// lines.
func TestALargeTableIsManyLines(t *testing.T) {
	big := &route.Table{Format: route.TableFormat, Epoch: 1, Version: 1, Cluster: route.Cluster{Name: "east", ID: clusterID}}
	for i := range 400 {
		s := route.Service{Name: catalog.MustServiceName(fmt.Sprintf("s-%04d.a", i)), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}, ExportedTo: []catalog.ClusterName{"p", "q"}}
		for k := range 50 {
			s.Endpoints = append(s.Endpoints, catalog.Endpoint{
				ID: fmt.Sprintf("%04d", k), Port: "http", Weight: 1, Health: catalog.Passing,
				Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(k)}), 80),
			})
		}
		big.Services = append(big.Services, s)
	}
	p := mesh.NewPublisher()
	if err := p.Publish(big); err != nil {
		t.Fatal(err)
	}
	lines := p.Lines(0, 0)
	if len(lines) < 3 {
		t.Fatalf("%d lines", len(lines))
	}
	f, err := mesh.NewFollower(clusterID, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := follow(f, lines)
	if err != nil || text(t, got) != text(t, big) {
		t.Fatalf("applied: %v", err)
	}
	if &got.Services[0].ExportedTo[0] != &got.Services[399].ExportedTo[0] {
		t.Error("equal sets are not shared")
	}
	// Half of the lines, and then all of them on a new stream.
	g, err := mesh.NewFollower(clusterID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := follow(g, lines[:2]); got != nil || err != nil || g.Table() != nil {
		t.Fatalf("half a patch: %v, %v", got, err)
	}
	if epoch, version := g.Connected(); epoch+version != 0 {
		t.Fatal("half a patch counts as a table")
	}
	if got, err := follow(g, lines); got == nil || err != nil {
		t.Fatalf("after half a patch: %v", err)
	}
	if got, err := follow(g, lines); got != nil || err != nil {
		t.Fatalf("the same again: %v, %v", got, err)
	}
	other, err := mesh.NewFollower("spiffe://east.test/isthmus/cluster/other", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := follow(other, lines); got != nil || err == nil {
		t.Fatal("another cluster's table is taken")
	}
}

// Fields that are added to a table's parts must enter Patch, route.Digester,
// route.Service.Shares, samePeer and the builder of tables; what a table has one
// of (Head) and policies travel as they are.
func TestEveryFieldTravels(t *testing.T) {
	for of, known := range map[reflect.Type]int{
		reflect.TypeFor[route.Peer](): 10, reflect.TypeFor[route.Service](): 8, reflect.TypeFor[route.Remote](): 4,
		reflect.TypeFor[catalog.Endpoint](): 11, reflect.TypeFor[catalog.SummaryRow](): 6, reflect.TypeFor[catalog.Gateway](): 4,
		reflect.TypeFor[catalog.Port](): 2, reflect.TypeFor[catalog.Locality](): 3,
	} {
		if n := of.NumField(); n != known {
			t.Errorf("%v has %d fields, %d are told to gateways", of, n, known)
		}
	}
}

// FuzzFollower: whatever a line holds, the follower neither panics nor gives a
// table that its last line does not vouch for.
func FuzzFollower(f *testing.F) {
	base := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1, Cluster: route.Cluster{Name: "east", ID: clusterID},
		Services: []route.Service{{Name: catalog.MustServiceName("web.a"), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}},
	}
	p := mesh.NewPublisher()
	if err := p.Publish(base); err != nil {
		f.Fatal(err)
	}
	next := *base
	next.Version, next.Federation = 2, "h:1"
	next.Services = slices.Clone(base.Services)
	next.Services[0].Endpoints = []catalog.Endpoint{{ID: "1", Port: "http", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1, Health: catalog.Passing}}
	if err := p.Publish(&next); err != nil {
		f.Fatal(err)
	}
	for _, have := range []uint64{0, 1} {
		for _, l := range p.Lines(have, have) {
			f.Add(l)
		}
	}
	f.Add([]byte(`{"patch":{"epoch":1,"version":2,"since":1,"services":[{"name":"x.y","exported_to":3}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var line mesh.TableLine
		if json.Unmarshal(data, &line) != nil || line.Patch == nil {
			return
		}
		follower, err := mesh.NewFollower(clusterID, base)
		if err != nil {
			t.Fatal(err)
		}
		got, err := follower.Apply(line.Patch)
		if err != nil && got != nil {
			t.Fatal("a table and an error")
		}
		if got == nil {
			if follower.Table() != base {
				t.Fatal("no table, and yet another one")
			}
			return
		}
		sum, err := mesh.DigestOf(got)
		if err != nil {
			t.Fatal(err)
		}
		if len(line.Patch.Intentions) == 0 && got.Services == nil && sum != line.Patch.Digest {
			t.Fatalf("digest %s, said %s", sum, line.Patch.Digest)
		}
	})
}
