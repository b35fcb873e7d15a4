package federation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

const wholeConfig = `
listen: 0.0.0.0:7483
advertise: 10.0.0.5:7483
api: {socket: /run/isthmus/api.sock, address: "127.0.0.1:7480", token_file: /etc/isthmus/token}
data_dir: /var/lib/isthmus
peers:
  - name: gcp
    id: spiffe://gcp.example.org/isthmus/cluster/gcp
    gateways: ["gw.gcp.example.org:7443"]
    bundle: {file: /etc/isthmus/gcp.json}
    asserts: ["spiffe://gcp.example.org/shop/*"]
    cloud: gcp
    region: us-central1
exports: [{name: all, services: ["*"], to: ["*"]}]
imports: [{name: gcp, from: gcp, services: ["*.shop"]}]
intentions: [{name: shop, services: [web], callers: ["spiffe://gcp.example.org/shop/*"], action: allow}]
traffic_policies: [{name: web, services: [web], algorithm: least_request, weights: {gcp: 1}}]
`

func TestWholeConfig(t *testing.T) {
	var c federation.Config
	if _, err := strictyaml.Decode("isthmus.yaml", []byte(wholeConfig), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Peers[0].Bundle.File != "/etc/isthmus/gcp.json" || c.Policy().Intentions[0].Services[0] != "web.default" || c.Traffic[0].Weights["gcp"] != 1 {
		t.Errorf("decoded %+v", c)
	}
}

func TestDefaults(t *testing.T) {
	if err := (federation.Config{}).Validate(); err != nil {
		t.Errorf("an empty config: %v", err)
	}
	c := federation.Config{}.WithDefaults()
	if c.API.Socket != federation.DefaultAPISocket || c.API.Address != federation.DefaultAPIAddress || c.API.TokenFile != federation.DefaultDataDir+"/api.token" {
		t.Errorf("defaults %+v", c.API)
	}
	c = federation.Config{DataDir: "/d", API: federation.API{Address: "127.0.0.1:1"}}.WithDefaults()
	if c.API.Socket != "" || c.API.TokenFile != "/d/api.token" {
		t.Errorf("with an address alone: %+v", c.API)
	}
}

// Every problem, each with the path of its field.
func TestValidateReportsEveryProblem(t *testing.T) {
	peer := func(name, id string, asserts ...policy.IDPattern) federation.Peer {
		return federation.Peer{Name: catalog.ClusterName(name), ID: id, Asserts: asserts}
	}
	for _, c := range []struct {
		name   string
		config federation.Config
		want   []string // field: part of the rule
	}{
		{"listen", federation.Config{Listen: "nowhere"}, []string{"listen: host:port"}},
		{"every address", federation.Config{Listen: "0.0.0.0:7483"}, []string{"advertise: is required"}},
		{"port", federation.Config{Listen: "127.0.0.1:99999"}, []string{"listen: port number"}},
		{"api on the network", federation.Config{API: federation.API{Address: "10.0.0.1:7480"}}, []string{"api.address: loopback"}},
		{"api on every address", federation.Config{API: federation.API{Address: "0.0.0.0:7480"}}, []string{"api.address: loopback"}},
		{"api by name", federation.Config{API: federation.API{Address: "localhost:7480"}}, []string{"api.address: ip:port"}},
		{"socket", federation.Config{API: federation.API{Socket: strings.Repeat("x", 200)}}, []string{"api.socket: at most 103"}},
		{"peers", federation.Config{Peers: []federation.Peer{
			peer("West", "spiffe://west.test/c"),
			peer("north", "spiffe://north.test"),
			peer("north", "http://x"),
			peer("south", "spiffe://west.test/c"),
		}}, []string{
			"peers[0].name: DNS label", "peers[1].id: must have a path", "peers[2].name: is the name of peers[1]",
			"peers[2].id: SPIFFE ID", "peers[3].id: is the id of peers[0]",
		}},
		{"asserts", federation.Config{Peers: []federation.Peer{
			peer("a", "spiffe://a.test/c", "spiffe://a.test/shop/*"),
			peer("b", "spiffe://b.test/c", "spiffe://b.test/*", "spiffe://a.test/shop/web", "nobody"),
		}}, []string{"peers[1].asserts[1]: overlaps with what peers[0]", "peers[1].asserts[2]: SPIFFE ID"}},
		{"addresses", federation.Config{Peers: []federation.Peer{
			{Name: "a", ID: "spiffe://a.test/c", Gateways: []string{"ok.test:1", "bad"}, Region: "r"},
		}}, []string{"peers[0].gateways[1]: host:port", "peers[0].region: needs a cloud"}},
		{"policy", federation.Config{
			Exports:    []policy.Export{{Name: "a", Services: []policy.ServicePattern{"*"}}},
			Imports:    []policy.Import{{Name: "b", From: "west"}},
			Intentions: []policy.Intention{{Name: "c", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://a.test/x"}, Action: "maybe"}},
			Traffic:    []policy.Traffic{{Name: "d", Services: []policy.ServicePattern{"*"}, Algorithm: "best"}},
		}, []string{"exports[0].to: at least 1", "imports[0].services: at least 1", "intentions[0].action: must be", "traffic_policies[0].algorithm: must be"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			for _, want := range c.want {
				field, rule, _ := strings.Cut(want, ": ")
				if !names(err, field, rule) {
					t.Errorf("no problem of %s with %q in:\n%v", field, rule, err)
				}
			}
		})
	}
	var many []federation.Peer
	for i := range federation.MaxPeers + 1 {
		many = append(many, peer(fmt.Sprintf("p-%d", i), fmt.Sprintf("spiffe://p%d.test/c", i)))
	}
	if err := (federation.Config{Peers: many}).Validate(); !names(err, "peers", "more than") {
		t.Errorf("%d peers: %v", len(many), err)
	}
	if err := (federation.Config{Peers: many[1:]}).Validate(); err != nil {
		t.Errorf("%d peers: %v", len(many)-1, err)
	}
}

// names reports whether err has a field error with that path and rule.
func names(err error, field, rule string) bool {
	if err == nil {
		return false
	}
	var fe *catalog.FieldError
	if errors.As(err, &fe) && fe.Field == field && strings.Contains(fe.Rule, rule) {
		return true
	}
	switch e := err.(type) { //nolint:errorlint // walks the tree
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if names(inner, field, rule) {
				return true
			}
		}
	case interface{ Unwrap() error }:
		return names(e.Unwrap(), field, rule)
	}
	return false
}

func TestNewReportsEveryProblem(t *testing.T) {
	_, err := federation.New(federation.Options{
		Cluster: "East", Locality: catalog.Locality{Zone: "a"},
		Sources: []federation.NamedSource{{Name: "a"}, {Source: newSource()}, {Name: "b", Source: newSource()}, {Name: "b", Source: newSource()}},
		Config:  federation.Config{Listen: "x", Peers: []federation.Peer{{Name: "East", ID: "spiffe://a.test/c"}}},
	})
	for _, want := range []string{"cluster.name: DNS label", "cluster: needs a region", "identity: is required", "sources: is given twice", "sources: must have a name", "federation.listen: host:port", "peers: own cluster"} {
		field, rule, _ := strings.Cut(want, ": ")
		if !names(err, field, rule) {
			t.Errorf("no problem of %s with %q in:\n%v", field, rule, err)
		}
	}
}
