package mesh_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen at once; only broken code meets it.
const patience = 20 * time.Second

// stand is a mesh listener of cluster "east" of trust domain "east.test", with
// "west" of "west.test" as a peer, all on real TCP and TLS.
type stand struct {
	server     *mesh.Server
	east, west *identitytest.CA
	federation *identity.Source
	cluster    spiffeid.ID
	peer       spiffeid.ID
	address    string
	reports    chan *route.Report
	ahead      chan uint64
	registry   *prometheus.Registry

	mu     sync.Mutex
	served map[string]int // requests that reached the exchange, by peer
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{
		east: identitytest.NewCA("east.test"), west: identitytest.NewCA("west.test"),
		reports: make(chan *route.Report, 16), ahead: make(chan uint64, 16), served: map[string]int{},
		registry: prometheus.NewPedanticRegistry(),
	}
	s.cluster, s.peer = s.east.ID("/isthmus/cluster/east"), s.west.ID("/isthmus/cluster/west")
	s.federation = s.east.Source(s.cluster, s.east.Bundle())
	if err := s.federation.SetPeerBundle(s.west.TrustDomain(), s.west.BundleJSON(1)); err != nil {
		t.Fatal(err)
	}
	server, err := mesh.New(mesh.Options{
		Identity: s.federation, Cluster: s.cluster,
		Report: func(r *route.Report) error {
			select {
			case s.reports <- r:
				return nil
			default:
				return errors.New("full")
			}
		},
		Ahead:    func(_ string, epoch uint64) { s.ahead <- epoch },
		Exchange: s.exchange, Registerer: s.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	server.SetPeers(s.peers())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *stand) peers() map[spiffeid.ID]catalog.ClusterName {
	return map[spiffeid.ID]catalog.ClusterName{s.peer: "west"}
}

// exchange answers with the origin that it was told, and keeps the stream open; on
// the connection itself where it is asked to.
func (s *stand) exchange(peer catalog.ClusterName) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.served[string(peer)]++
		s.mu.Unlock()
		if r.Header.Get("Upgrade") != "" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\norigin %s\n", peer)
			defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = fmt.Fprintf(w, "origin %s\n", peer)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
}

// dialer speaks HTTP to the listener as the holder of an SVID.
func (s *stand) dialer(t *testing.T, who *identity.Source) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:   who.ClientTLS([]string{"h2", "http/1.1"}, identity.AuthorizeIDs(s.cluster)),
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *stand) gatewayIdentity(name string) *identity.Source {
	return s.east.Source(s.east.ID("/isthmus/cluster/east/gateway/"+name), s.east.Bundle())
}

func (s *stand) gateway(t *testing.T, name string) *client.Gateway {
	t.Helper()
	g, err := client.NewGateway(client.GatewayOptions{Address: s.address, Identity: s.gatewayIdentity(name), FederationID: s.cluster})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (s *stand) peerIdentity() *identity.Source {
	return s.west.Source(s.peer, s.west.Bundle(), s.east.Bundle())
}

func (s *stand) url(path string) string { return "https://" + s.address + path }

func (s *stand) table(epoch, version uint64) *route.Table {
	return &route.Table{
		Format: route.TableFormat, Epoch: epoch, Version: version,
		Cluster: route.Cluster{Name: "east", ID: s.cluster.String()}, Federation: s.address,
	}
}

func (s *stand) publish(t *testing.T, epoch, version uint64) {
	t.Helper()
	if err := s.server.Publish(route.EditionOf(s.table(epoch, version))); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// run follows the tables as g does until the test ends.
func run(t *testing.T, g *client.Gateway) <-chan *route.Table {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tables := make(chan *route.Table, 64)
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, func(t *route.Table) { tables <- t }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return tables
}

func TestGatewaysGetEveryNewTable(t *testing.T) {
	s := newStand(t)
	one, two := run(t, s.gateway(t, "gw-1")), run(t, s.gateway(t, "gw-2"))
	for version := uint64(1); version <= 5; version++ {
		began := time.Now()
		s.publish(t, 3, version)
		for _, tables := range []<-chan *route.Table{one, two} {
			if got := receive(t, tables); got.Epoch != 3 || got.Version != version {
				t.Fatalf("got table (%d, %d), want (3, %d)", got.Epoch, got.Version, version)
			}
		}
		t.Logf("table %d reached both gateways in %v", version, time.Since(began).Round(time.Microsecond))
	}
}

// A gateway that has the table is not sent it again.
func TestAGatewayThatHasTheTableGetsTheNextOne(t *testing.T) {
	s := newStand(t)
	s.publish(t, 3, 7)
	g, err := client.NewGateway(client.GatewayOptions{
		Address: s.address, Identity: s.gatewayIdentity("gw-1"), FederationID: s.cluster, Have: s.table(3, 7),
	})
	if err != nil {
		t.Fatal(err)
	}
	tables := run(t, g)
	s.publish(t, 3, 8)
	if got := receive(t, tables); got.Version != 8 {
		t.Fatalf("got version %d, want 8 alone", got.Version)
	}
}

func TestAGatewayWithANewerTableIsHeard(t *testing.T) {
	s := newStand(t)
	s.publish(t, 3, 7)
	g, err := client.NewGateway(client.GatewayOptions{
		Address: s.address, Identity: s.gatewayIdentity("gw-1"), FederationID: s.cluster, Have: s.table(9, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	tables := run(t, g)
	if epoch := receive(t, s.ahead); epoch != 9 {
		t.Fatalf("ahead by epoch %d, want 9", epoch)
	}
	select {
	case got := <-tables:
		t.Fatalf("an older table was published: (%d, %d)", got.Epoch, got.Version)
	default:
	}
	s.publish(t, 10, 1)
	if got := receive(t, tables); got.Epoch != 10 {
		t.Fatalf("got epoch %d, want 10", got.Epoch)
	}
}

func TestReports(t *testing.T) {
	s := newStand(t)
	g := s.gateway(t, "gw-1")
	report := &route.Report{
		Gateway: catalog.Gateway{Name: "gw-1", ID: s.cluster.String() + "/gateway/gw-1", Addresses: []string{"127.0.0.1:7443"}},
		Control: "127.0.0.1:7482", Version: 4,
	}
	if err := g.Send(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, s.reports); got.Gateway.Name != "gw-1" || got.Version != 4 {
		t.Fatalf("got %+v", got)
	}
	for name, spoil := range map[string]func(*route.Report){
		"another's name":    func(r *route.Report) { r.Gateway.Name = "gw-2" },
		"another's id":      func(r *route.Report) { r.Gateway.ID = s.cluster.String() + "/gateway/gw-2" },
		"no name":           func(r *route.Report) { r.Gateway.Name = "" },
		"a bad address":     func(r *route.Report) { r.Gateway.Addresses = []string{"nowhere"} },
		"a bad control":     func(r *route.Report) { r.Control = ":1" },
		"a bad locality":    func(r *route.Report) { r.Locality = catalog.Locality{Zone: "a"} },
		"too many to count": func(r *route.Report) { r.Gateway.Addresses = make([]string, 100) },
	} {
		bad := *report
		spoil(&bad)
		err := g.Send(t.Context(), &bad)
		var se *client.StatusError
		if !errors.As(err, &se) || se.Status != http.StatusForbidden {
			t.Errorf("%s: Send = %v, want status 403", name, err)
		}
	}
	if len(s.reports) != 0 {
		t.Errorf("%d refused reports were taken", len(s.reports))
	}
}

// The IDs that are no gateway of this cluster and no configured peer, each
// refused in the handshake.
func TestStrangersAreRefused(t *testing.T) {
	s := newStand(t)
	south := identitytest.NewCA("south.test")
	for name, who := range map[string]*identity.Source{
		"a gateway of another cluster":    s.east.Source(s.east.ID("/isthmus/cluster/eastern/gateway/gw-1"), s.east.Bundle()),
		"a gateway of the peer":           s.west.Source(s.west.ID("/isthmus/cluster/west/gateway/gw-1"), s.west.Bundle(), s.east.Bundle()),
		"a workload":                      s.east.Source(s.east.ID("/shop/web"), s.east.Bundle()),
		"the own federation":              s.east.Source(s.cluster, s.east.Bundle()),
		"a gateway without a name":        s.east.Source(s.east.ID("/isthmus/cluster/east/gateway"), s.east.Bundle()),
		"a gateway with two names":        s.east.Source(s.east.ID("/isthmus/cluster/east/gateway/a/b"), s.east.Bundle()),
		"a gateway with no label":         s.east.Source(s.east.ID("/isthmus/cluster/east/gateway/A_b"), s.east.Bundle()),
		"our gateway's path in west":      s.west.Source(s.west.ID("/isthmus/cluster/east/gateway/gw-1"), s.west.Bundle(), s.east.Bundle()),
		"a trust domain that nobody has":  south.Source(south.ID("/isthmus/cluster/south"), south.Bundle(), s.east.Bundle()),
		"west's id by another authority":  identitytest.NewCA("west.test").Source(s.peer, s.east.Bundle()),
		"a federation below the peer's":   s.west.Source(s.west.ID("/isthmus/cluster/west/x"), s.west.Bundle(), s.east.Bundle()),
		"an own gateway by another's key": identitytest.NewCA("east.test").Source(s.east.ID("/isthmus/cluster/east/gateway/gw-1"), s.east.Bundle()),
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{mesh.TablePath, mesh.ExchangePrefix + "catalog"} {
				req, err := http.NewRequestWithContext(t.Context(), "GET", s.url(path), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := s.dialer(t, who).Do(req)
				if err == nil {
					_ = resp.Body.Close()
					t.Fatalf("GET %s = %d, want no connection", path, resp.StatusCode)
				}
			}
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13})
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		// In TLS 1.3 the refusal comes after the client's end of the handshake.
		_, _ = io.WriteString(conn, "GET "+mesh.TablePath+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			_ = resp.Body.Close()
			t.Fatalf("status %d, want no answer", resp.StatusCode)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.served) != 0 || len(s.reports) != 0 {
		t.Errorf("strangers were served: %v, %d reports", s.served, len(s.reports))
	}
}

// Each group is for its own callers.
func TestGroupsAreApart(t *testing.T) {
	s := newStand(t)
	gateway, peer := s.dialer(t, s.gatewayIdentity("gw-1")), s.dialer(t, s.peerIdentity())
	for _, c := range []struct {
		name         string
		as           *http.Client
		method, path string
		status       int
	}{
		{"a gateway in the exchange", gateway, "GET", mesh.ExchangePrefix + "catalog", 403},
		{"a peer's federation at tables", peer, "GET", mesh.TablePath, 403},
		{"a peer's federation at reports", peer, "POST", mesh.ReportPath, 403},
		{"an unknown path", gateway, "GET", "/v1/services", 404},
		{"a wrong method", gateway, "GET", mesh.ReportPath, 405},
		{"a position that is no number", gateway, "GET", mesh.TablePath + "?epoch=x", 400},
		{"a report that is no JSON", gateway, "POST", mesh.ReportPath, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.url(c.path), strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.as.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.status)
		}
	}
	if _, told := s.served["west"]; told {
		t.Error("the exchange served somebody")
	}
}

// follow opens the exchange as the peer and returns the stream.
func (s *stand) follow(t *testing.T, who *identity.Source, upgrade ...bool) (*bufio.Reader, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url(mesh.ExchangePrefix+"catalog"), nil)
	if err != nil {
		t.Fatal(err)
	}
	client, want := s.dialer(t, who), http.StatusOK
	if slices.Contains(upgrade, true) {
		transport := client.Transport.(*http.Transport)
		transport.TLSClientConfig.NextProtos, transport.ForceAttemptHTTP2 = []string{"http/1.1"}, false
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "test")
		want = http.StatusSwitchingProtocols
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != want {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return bufio.NewReader(resp.Body), nil
}

func TestTheOriginIsTheCertificates(t *testing.T) {
	s := newStand(t)
	stream, err := s.follow(t, s.peerIdentity())
	if err != nil {
		t.Fatal(err)
	}
	if line, err := stream.ReadString('\n'); err != nil || line != "origin west\n" {
		t.Fatalf("line %q, %v", line, err)
	}
}

func ended(t *testing.T, stream *bufio.Reader) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stream)
		done <- err
	}()
	began := time.Now()
	if err := receive(t, done); err == nil {
		t.Log("the stream ended without an error")
	}
	t.Logf("cut after %v", time.Since(began).Round(time.Millisecond))
}

func TestARemovedPeerIsCutAtOnce(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		t.Run(fmt.Sprintf("upgrade %v", upgrade), func(t *testing.T) { testARemovedPeerIsCut(t, upgrade) })
	}
}

func testARemovedPeerIsCut(t *testing.T, upgrade bool) {
	s := newStand(t)
	stream, err := s.follow(t, s.peerIdentity(), upgrade)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	gateway := run(t, s.gateway(t, "gw-1"))
	s.publish(t, 1, 1)
	receive(t, gateway)
	s.server.SetPeers(nil)
	ended(t, stream)
	if _, err := s.follow(t, s.peerIdentity(), upgrade); err == nil {
		t.Error("a removed peer came back")
	}
	// Nobody else is touched.
	s.publish(t, 1, 2)
	receive(t, gateway)
	s.server.SetPeers(s.peers())
	if _, err := s.follow(t, s.peerIdentity(), upgrade); err != nil {
		t.Errorf("a peer that was added again is refused: %v", err)
	}
}

func TestAPeerWhoseBundleIsRemovedIsCut(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		s := newStand(t)
		stream, err := s.follow(t, s.peerIdentity(), upgrade)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		s.federation.RemovePeerBundle(s.west.TrustDomain())
		ended(t, stream)
	}
}

// A connection that a handler has taken over counts among the live ones for as long
// as the handler has it, and by the status that it answers with.
func TestATakenConnectionIsCounted(t *testing.T) {
	s := newStand(t)
	peers := func() (connections, upgraded float64) {
		families, err := s.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					switch {
					case f.GetName() == "isthmus_federation_mesh_connections" && l.GetValue() == "peer":
						connections = m.GetGauge().GetValue()
					case f.GetName() == "isthmus_federation_mesh_requests_total" && l.GetValue() == "101":
						upgraded = m.GetCounter().GetValue()
					}
				}
			}
		}
		return connections, upgraded
	}
	stream, err := s.follow(t, s.peerIdentity(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if n, _ := peers(); n != 1 {
		t.Errorf("%v connections of peers", n)
	}
	s.server.SetPeers(nil)
	ended(t, stream)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		n, upgraded := peers()
		if n == 0 && upgraded == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v connections of peers, %v upgrades", n, upgraded)
		}
	}
}
