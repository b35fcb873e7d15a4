package route_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// valid is a table with something in every field.
func valid() *route.Table {
	w := authorized()
	s := w.service()
	s.Quarantined = []string{"az1-0"}
	w.policy(policy.Traffic{Weights: map[catalog.ClusterName]uint32{"b": 1}})
	w.table.Peers[0].Gateways = []catalog.Gateway{
		{Name: "gw1", ID: w.table.Peers[0].ID + "/gateway/gw1", Addresses: []string{"gw.b.test:7443"}, Draining: true},
	}
	w.table.Peers[0].Bundle = json.RawMessage(`{"keys":[]}`)
	w.table.Peers[1].Gateways = []catalog.Gateway{{Addresses: []string{"192.0.2.1:7443"}}}
	return w.table
}

func TestTableRoundTrips(t *testing.T) {
	want := valid()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := route.DecodeTable(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(got); string(again) != string(b) {
		t.Errorf("read and written again:\n%s, want\n%s", again, b)
	}
	if d := route.DiffTables(want, got); !d.IsEmpty() {
		t.Errorf("the round trip changed %+v", d)
	}
}

func TestValidateNamesTheProblem(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*route.Table)
		want   string
	}{
		{"no cluster", func(t *route.Table) { t.Cluster.Name = "" }, "cluster.name"},
		{"bad locality", func(t *route.Table) { t.Cluster.Locality = catalog.Locality{Zone: "z"} }, "cluster.locality"},
		{"no identity", func(t *route.Table) { t.Cluster.ID = "aws" }, "cluster.id"},
		{"a trust domain as identity", func(t *route.Table) { t.Cluster.ID = "spiffe://aws.test" }, "must have a path"},
		{"federation without a port", func(t *route.Table) { t.Federation = "localhost" }, "federation"},
		{"peers out of order", func(t *route.Table) { t.Peers[0], t.Peers[1] = t.Peers[1], t.Peers[0] }, "sorted by name"},
		{"a peer twice", func(t *route.Table) { t.Peers = append(t.Peers, t.Peers[1]) }, "each once"},
		{"itself as a peer", func(t *route.Table) { t.Peers[0].Name = own }, "own cluster"},
		{"two peers, one identity", func(t *route.Table) { t.Peers[1].ID = t.Peers[0].ID }, "two clusters"},
		{"the own identity", func(t *route.Table) { t.Peers[1].ID = t.Cluster.ID }, "two clusters"},
		{"too many peers", func(t *route.Table) { t.Peers = make([]route.Peer, route.MaxPeers+1) }, "at most 1000"},
		{"a gateway of another cluster", func(t *route.Table) { t.Peers[0].Gateways[0].ID = t.Peers[1].ID + "/gateway/gw1" }, "gateways[0].id"},
		{"a nameless gateway nowhere", func(t *route.Table) { t.Peers[1].Gateways[0].Addresses = nil }, "gateways[0].addresses"},
		{"asserts of two peers overlap", func(t *route.Table) { t.Peers[1].Asserts = t.Peers[0].Asserts }, "peers"},
		{"services out of order", func(t *route.Table) { t.Services[0], t.Services[1] = t.Services[1], t.Services[0] }, "sorted by namespace"},
		{"a reserved service", func(t *route.Table) { t.Services[0].Name = catalog.FederationService("b") }, "reserved"},
		{"an endpoint of no port", func(t *route.Table) { t.Services[0].Endpoints[0].Port = "x" }, "endpoints[0].port"},
		{"more quarantined than endpoints", func(t *route.Table) { t.Services[0].Quarantined = []string{"a", "b"} }, "quarantined"},
		{"exported to a stranger", func(t *route.Table) { t.Services[0].ExportedTo = []catalog.ClusterName{"z"} }, "exported_to"},
		{"imported from a stranger", func(t *route.Table) { t.Services[0].Remote[0].Cluster = "z" }, "remote[0].cluster"},
		{"more ready than there are", func(t *route.Table) { t.Services[0].Remote[0].Rows[0].Ready = 9 }, "rows[0].ready"},
		{"an unknown algorithm", func(t *route.Table) { t.Services[0].Traffic.Algorithm = "best" }, "traffic"},
		{"an intention without callers", func(t *route.Table) { t.Intentions[0].Callers = nil }, "intentions"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := valid()
			if err := table.Validate(); err != nil {
				t.Fatalf("the table to start from: %v", err)
			}
			tt.change(table)
			if err := table.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestValidateSaysABoundedNumberOfProblems(t *testing.T) {
	table := valid()
	for range 5000 {
		table.Services = append(table.Services, route.Service{})
	}
	err := table.Validate()
	if err == nil || !strings.Contains(err.Error(), "more problems") || len(err.Error()) > 1<<14 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func TestTheDefaultPolicyIsValid(t *testing.T) {
	table := valid()
	table.Services[0].Traffic = policy.DefaultTraffic()
	if err := table.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	b, err := json.Marshal(valid())
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(b), `"format":3`, `"format":4`, 1)
	if _, err := route.DecodeTable([]byte(newer)); !errors.Is(err, route.ErrTableFormat) {
		t.Errorf("a newer format: %v", err)
	}
	for name, data := range map[string]string{
		"nothing": "", "null": "null", "no format": "{}", "two tables": string(b) + string(b), "a bad name": strings.Replace(string(b), `"billing.default"`, `"Billing"`, 1),
	} {
		if _, err := route.DecodeTable([]byte(data)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	for i := 0; i < len(b); i += 7 { // a file cut short
		if _, err := route.DecodeTable(b[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes are read as a table", i, len(b))
		}
	}
	unknown := strings.Replace(string(b), `{"format":2`, `{"later":{"x":1},"format":2`, 1)
	if _, err := route.DecodeTable([]byte(unknown)); err != nil {
		t.Errorf("an unknown field of the same format: %v", err)
	}
}

func TestHashIsOfWhatIsRoutedBy(t *testing.T) {
	hash := func(change func(*route.Table)) string {
		table := valid()
		change(table)
		h, err := table.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	base := hash(func(*route.Table) {})
	if hash(func(t *route.Table) { t.Epoch, t.Version, t.Peers[0].HeardAt = 9, 9, time.Now() }) != base {
		t.Error("the position or the time of the last word changes the hash")
	}
	for name, change := range map[string]func(*route.Table){
		"control lost": func(t *route.Table) { t.Peers[0].ControlLost = true },
		"ready":        func(t *route.Table) { t.Services[0].Remote[0].Rows[0].Ready = 0 },
		"weight":       func(t *route.Table) { t.Services[0].Traffic.Weights["b"] = 2 },
	} {
		if hash(change) == base {
			t.Errorf("%s does not change the hash", name)
		}
	}
}

func TestDiffTables(t *testing.T) {
	a, b := valid(), valid()
	b.Peers[0].HeardAt = time.Now()
	if d := route.DiffTables(a, b); !d.IsEmpty() {
		t.Errorf("being heard again is a change: %+v", d)
	}
	b.Peers = append(b.Peers[:1:1], route.Peer{Name: "d"})
	b.Peers[0].ControlLost = true
	b.Services = b.Services[1:]
	b.Services[0].ExportedTo = nil
	b.Services = append(b.Services, route.Service{Name: catalog.MustServiceName("x.y")})
	b.Intentions = nil
	b.Federation = "127.0.0.1:1"
	want := `{"added_peers":["d"],"removed_peers":["c"],"changed_peers":["b"],"added_services":["x.y"],"removed_services":["billing.default"],"intentions":true,"cluster":true}`
	if got, _ := json.Marshal(route.DiffTables(a, b)); string(got) != want {
		t.Errorf("got %s", got)
	}
	if d := route.DiffTables(nil, nil); !d.IsEmpty() {
		t.Errorf("nothing to nothing: %+v", d)
	}
	if d := route.DiffTables(a, nil); len(d.RemovedServices) != len(a.Services) {
		t.Errorf("to nothing: %+v", d)
	}
}

// Whatever is accepted compiles and decides, and is accepted again in the form
// in which it is written.
func FuzzDecodeTable(f *testing.F) {
	// Small seeds, one feature each: the fuzzer shrinks whatever covers more, and
	// takes minutes to shrink a whole table.
	remote := newWorld().peer("b", "gcp", 0, 1, 2)
	ruled := newWorld().policy(policy.Traffic{Weights: map[catalog.ClusterName]uint32{"b": 1}})
	for _, w := range []*world{newWorld().local("az1", 1), remote, ruled} {
		b, err := json.Marshal(w.table)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := route.DecodeTable(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(table)
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if _, err := route.DecodeTable(b); err != nil {
			t.Fatalf("accepted, but not when written again: %v", err)
		}
		p := route.Compile(table, &route.Evidence{Now: epoch}, nil)
		for i := range table.Services {
			r := &route.Request{Service: table.Services[i].Name, Random: uint64(len(data)), NowNanos: epoch.UnixNano()}
			c, rec := p.Pick(r)
			if l := p.Replay(rec); l.Status != c.Status {
				t.Fatalf("picked %s, replayed %s", c.Status, l.Status)
			}
			p.PickLocal(r)
		}
	})
}
