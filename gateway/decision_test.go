package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// decider is the product's path of a decision: the handshake's verification, the
// admission of a peer's gateway, the verdict of the plan.
type decider struct {
	node   *tunnel.Node
	verify func(tls.ConnectionState) error
}

func newDecider(t *testing.T, cas map[string]*identitytest.CA) *decider {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	own := cas["own.test"].Source(cas["own.test"].ID("/c/own/gateway/gw"), cas["a.test"].Bundle(), cas["b.test"].Bundle())
	d := new(decider)
	if d.node, err = tunnel.New(tunnel.Options{PacketConn: conn, Identity: own, Cluster: "own", Gateway: "gw", Handler: nobody{}}); err != nil {
		t.Fatal(err)
	}
	if err := d.node.SetPeers([]tunnel.Peer{
		{Cluster: "a", ID: spiffeid.RequireFromString("spiffe://a.test/c/a"), Gateways: []tunnel.PeerGateway{{Name: "gw1"}, {Name: "gw2"}}},
		{Cluster: "b", ID: spiffeid.RequireFromString("spiffe://b.test/c/b")},
	}); err != nil {
		t.Fatal(err)
	}
	d.verify = own.ServerTLS([]string{"isthmus/1"}, identity.AuthorizeFunc(func(id spiffeid.ID) bool {
		_, ok := d.node.Identify(id)
		return ok
	})).VerifyConnection
	return d
}

// handshake says which cluster's gateway shows the chain, "" for none.
func (d *decider) handshake(chain []*x509.Certificate) catalog.ClusterName {
	state := tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, NegotiatedProtocol: "isthmus/1", PeerCertificates: chain}
	if d.verify(state) != nil {
		return ""
	}
	id, err := identity.PeerID(state)
	if err != nil {
		return ""
	}
	remote, _ := d.node.Identify(id)
	return catalog.ClusterName(remote.Cluster)
}

type nobody struct{ tunnel.Handler }

// shownChains are certificates with each defect, and without any, for several names.
func shownChains(cas map[string]*identitytest.CA) (all [][]*x509.Certificate) {
	add := func(s *x509svid.SVID) { all = append(all, s.Certificates) }
	all = append(all, nil)
	for _, td := range []string{"a.test", "b.test", "own.test"} {
		ca, other := cas[td], cas[map[string]string{"a.test": "b.test", "b.test": "a.test", "own.test": "a.test"}[td]]
		c := td[:len(td)-len(".test")]
		for _, path := range []string{"/c/" + c + "/gateway/gw1", "/c/" + c + "/gateway/gw2", "/c/" + c + "/gateway/gw3", "/c/" + c, "/c/" + c + "/gateway/GW1", "/c/" + c + "/gateway/gw1/x", "/w"} {
			id := ca.ID(path)
			s := id.String()
			for _, uri := range []string{s, s + "/", "spiffe://" + c + ".TEST" + path, "https://" + td + path, s + "?x", "spiffe://" + td, "spiffe://x@" + td + path, "spiffe://" + td + "/x/.." + path} {
				if minted, err := ca.TryMint(identitytest.Leaf{URIs: []string{uri}}); err == nil {
					add(minted)
				}
			}
			add(ca.Expired(id))
			add(ca.NotYetValid(id))
			add(ca.TwoURIs(id, ca.ID("/w")))
			add(ca.NoSAN())
			add(ca.CAAsLeaf(id))
			add(ca.Mint(identitytest.Leaf{URIs: []string{s}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}))
			add(ca.Mint(identitytest.Leaf{URIs: []string{s}, KeyUsage: x509.KeyUsageKeyEncipherment}))
			add(other.SVID(id))
			add(identitytest.NewCA(td).SVID(id))
			add(ca.Intermediate(td).SVID(id))
			add(ca.Intermediate(other.TrustDomain().Name()).SVID(id))
		}
	}
	return all
}

// The paths of requests, as they are sent, with what they are.
var drawnPaths = []struct {
	sent, path string
	ambiguous  bool
}{
	{"/", "/", false},
	{"/a", "/a", false},
	{"/a/", "/a/", false},
	{"/A", "/A", false},
	{"/a/b", "/a/b", false},
	{"/a%20b", "/a b", false},
	{"/ab", "/ab", false},
	{"//a", "", true},
	{"/a/../b", "", true},
	{"/%61", "", true},
	{"/a%2fb", "", true},
	{"/a;x", "", true},
	{"*", "", true},
}

func one[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func drawTable(r *rand.Rand) *route.Table {
	t := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1, Cluster: route.Cluster{Name: "own", ID: "spiffe://own.test/c/own"},
		Peers: []route.Peer{
			{Name: "a", ID: "spiffe://a.test/c/a", Gateways: []catalog.Gateway{{Name: "gw1", ID: "spiffe://a.test/c/a/gateway/gw1"}, {Name: "gw2", ID: "spiffe://a.test/c/a/gateway/gw2"}}},
			{Name: "b", ID: "spiffe://b.test/c/b"},
		},
	}
	t.Peers[0].Asserts = one(r, nil, []policy.IDPattern{"spiffe://a.test/*"}, []policy.IDPattern{"spiffe://a.test/w", "spiffe://a.test/x/*"})
	t.Peers[1].Asserts = one(r, nil, []policy.IDPattern{"spiffe://b.test/*"}, []policy.IDPattern{"spiffe://b.test/w"})
	for _, name := range []string{"s.x", "t.x", "u.y"} {
		s := route.Service{
			Name: catalog.MustServiceName(name), Ports: []catalog.Port{{Name: "main", Protocol: one(r, catalog.HTTP, catalog.TCP)}},
			ExportedTo: one(r, nil, []catalog.ClusterName{"a"}, []catalog.ClusterName{"b"}, []catalog.ClusterName{"a", "b"}, []catalog.ClusterName{"a", "b"}),
		}
		if r.IntN(2) == 0 {
			s.Endpoints = []catalog.Endpoint{{ID: "e", Port: "main"}}
		}
		t.Services = append(t.Services, s)
	}
	for i := range r.IntN(6) {
		in := policy.Intention{
			Name: fmt.Sprintf("r%d", i), Action: one(r, policy.Allow, policy.Allow, policy.Deny), Services: []policy.ServicePattern{one(r, policy.ServicePattern("*"), "*.x", "s.x", "u.y")},
			Callers: []policy.IDPattern{one(r, policy.IDPattern("spiffe://a.test/*"), "spiffe://b.test/*", "spiffe://a.test/w", "spiffe://b.test/w", "spiffe://a.test/x/*")},
		}
		for range r.IntN(3) {
			c := policy.HTTPCondition{Methods: one(r, nil, []string{"GET"}, []string{"POST", "PUT"})}
			switch r.IntN(3) {
			case 0:
				c.Path = one(r, "/", "/a", "/a/b", "/a b")
			case 1:
				c.PathPrefix = one(r, "/", "/a/")
			}
			if r.IntN(3) == 0 || len(c.Methods) == 0 && c.Path+c.PathPrefix == "" {
				c.Headers = []policy.HeaderCondition{one(r, policy.HeaderCondition{Name: "x", Exact: "1"}, policy.HeaderCondition{Name: "x", Prefix: "1", Invert: true}, policy.HeaderCondition{Name: "x", Present: true})}
			}
			in.HTTP = append(in.HTTP, c)
		}
		t.Intentions = append(t.Intentions, in)
	}
	return t
}

// TestDecisionsAgreeWithTheOracle: a million random (certificate, policy, target)
// triples, a hundred thousand with the race detector; each handshake is judged anew for
// every sixteen of them.
func TestDecisionsAgreeWithTheOracle(t *testing.T) {
	triples, perHandshake := 1_000_000, 32
	if raceEnabled {
		triples = 100_000
	}
	if testing.Short() {
		triples = 20_000
	}
	cas, roots := make(map[string]*identitytest.CA), make(map[string]*x509.Certificate)
	for _, td := range []string{"own.test", "a.test", "b.test"} {
		cas[td] = identitytest.NewCA(td)
		roots[td] = cas[td].Certificate()
	}
	d, chains, now := newDecider(t, cas), shownChains(cas), time.Now()
	ids := make([]string, len(chains)) // the oracle's word on each chain
	var good []int
	for i, chain := range chains {
		ids[i], _ = oracleLeaf(chain, roots, now)
		if cluster := d.handshake(chain); cluster != "" {
			good = append(good, i)
		}
	}
	r := rand.New(rand.NewPCG(7, 11))
	type world struct {
		table *route.Table
		plan  *route.Plan
	}
	worlds := make([]world, 2000)
	for i := range worlds {
		table := drawTable(r)
		worlds[i] = world{table, route.Compile(table, nil, nil)}
	}
	services := []catalog.ServiceName{
		catalog.MustServiceName("s.x"), catalog.MustServiceName("t.x"), catalog.MustServiceName("u.y"), catalog.MustServiceName("nobody.x"),
		catalog.FederationService("own"), catalog.FederationService("a"),
	}
	callers := []string{"", "w", "spiffe://a.test/w", "spiffe://a.test/w", "spiffe://b.test/w", "spiffe://b.test/w", "spiffe://a.test/x", "spiffe://a.test/x/y", "spiffe://a.test", "spiffe://a.test/w/", "spiffe://A.test/w", "spiffe://c.test/w"}
	allowed, admitted, differences := 0, 0, 0
	began := time.Now()
	for n := 0; n < triples; {
		i := r.IntN(len(chains))
		if r.IntN(2) == 0 { // few of the chains are good, and theirs is the more to judge
			i = one(r, good...)
		}
		cluster := d.handshake(chains[i])
		for range perHandshake {
			n++
			w := &worlds[r.IntN(len(worlds))]
			ask := &route.Ask{Service: one(r, services...), Port: one(r, "", "main", "other"), Caller: one(r, callers...)}
			path := drawnPaths[r.IntN(len(drawnPaths))]
			if r.IntN(3) > 0 {
				header := one(r, http.Header(nil), http.Header{"X": {"1"}}, http.Header{"X": {"1", "2"}}, http.Header{"X": {"2"}})
				request := policy.NewHTTPRequest(one(r, "GET", "get", "POST", "DELETE"), path.sent, header)
				ask.HTTP = &request
			}
			got := cluster != "" && w.plan.AuthorizeInbound(cluster, ask).Allowed
			want := ids[i] != "" && oracleAllows(w.table, ids[i], ask, path.path, ask.HTTP != nil && path.ambiguous)
			if cluster != "" {
				admitted++
			}
			if got {
				allowed++
			}
			if got != want {
				if differences++; differences <= 5 {
					t.Errorf("%q as %q asks %+v (%+v) of %+v: %v, the oracle says %v", ids[i], cluster, ask, ask.HTTP, w.table, got, want)
				}
			}
		}
	}
	t.Logf("figure: %d triples of %d chains and %d policies, %d admitted, %d allowed, %d differences, in %v", triples, len(chains), len(worlds), admitted, allowed, differences, time.Since(began).Round(time.Millisecond))
	if allowed < triples/200 || admitted < triples/20 {
		t.Errorf("only %d of %d were allowed, %d admitted: the draw asks too little", allowed, triples, admitted)
	}
}
