package refusals_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

const (
	within   = time.Minute
	intruder = "spiffe://east.test/intruder"
	// impostor is an identity of the west's trust domain that looks like one of
	// the east's gateways.
	impostor = "spiffe://west.test/isthmus/cluster/east/gateway/gw1"
)

type world struct {
	*stand.Stand
	east, west *stand.Cluster
}

// newWorld: the west hosts three services; it exports open and guarded, and
// allows the east's client to call open only.
func newWorld(t *testing.T) *world {
	t.Helper()
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	w := &world{Stand: s, east: s.Clusters[0], west: s.Clusters[1]}
	s.Domains["east.test"].Extra = []string{intruder}
	s.Domains["west.test"].Extra = []string{impostor}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "reached")
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	var services []stand.Service
	for _, name := range []string{"open", "guarded", "secret"} {
		services = append(services, stand.Service{Name: name + ".default", Port: "main", Protocol: "http", Addresses: []string{ln.Addr().String()}})
	}
	w.west.WriteCatalog(t, services...)
	f := w.west.Section()
	f["exports"] = []any{stand.Object{"name": "two", "services": []any{"open.default", "guarded.default"}, "to": []any{"east"}}}
	f["intentions"] = []any{
		stand.Object{"name": "east-open", "services": []any{"open.default"}, "callers": []any{w.east.Caller()}, "action": "allow"},
	}
	w.Start()
	stand.Eventually(t, within, "open answers", func() error {
		code, reason, err := w.ask(t.Context(), "open.default.mesh")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, reason)
		}
		return err
	})
	return w
}

func (w *world) ask(ctx context.Context, host string) (code int, reason string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.east.Gateways[0].HTTP.String()+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, resp.Header.Get("Isthmus-Reason"), nil
}

// counted sums the samples of a gateway's metrics whose line matches.
func counted(t *testing.T, g *stand.Gateway, pattern string) float64 {
	t.Helper()
	body, err := stand.Get("http://" + g.Admin.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`(?m)^` + pattern + `.* (\S+)$`)
	total := 0.0
	for _, m := range re.FindAllStringSubmatch(string(body), -1) {
		v, err := strconv.ParseFloat(m[len(m)-1], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += v
	}
	return total
}

// refused runs an attack and asserts that the gateway counts and logs it with
// its reason.
func refused(t *testing.T, g *stand.Gateway, metric, reason string, attack func()) {
	t.Helper()
	pattern := metric + `\{[^}]*reason="` + reason + `"`
	counts, logs := counted(t, g, pattern), g.LogCount(reason)
	attack()
	stand.Eventually(t, 15*time.Second, reason+" counted and logged", func() error {
		if counted(t, g, pattern) <= counts {
			return errors.New("not counted in " + pattern)
		}
		if g.LogCount(reason) <= logs {
			return errors.New("not logged")
		}
		return nil
	})
	stand.Figure(t, "refused, counted and logged as %q", reason)
}

func TestStrangersAreRefused(t *testing.T) {
	w := newWorld(t)
	target := w.west.Gateways[0]
	west := w.Domains["west.test"]
	for name, c := range map[string]struct {
		reason string
		config func(t *testing.T) *tls.Config
	}{
		"no certificate": {"no_certificate", func(*testing.T) *tls.Config { return &tls.Config{} }},
		"unknown trust domain": {"unknown_trust_domain", func(*testing.T) *tls.Config {
			ca := identitytest.NewCA("evil.test")
			return holding(ca, ca.ID("/isthmus/cluster/east/gateway/gw1"))
		}},
		"a forged certificate of the right name": {"untrusted_chain", func(*testing.T) *tls.Config {
			ca := identitytest.NewCA("east.test")
			return holding(ca, ca.ID("/isthmus/cluster/east/gateway/gw1"))
		}},
		"an expired certificate": {"expired", func(*testing.T) *tls.Config {
			ca := identitytest.NewCA("east.test")
			svid := ca.Expired(ca.ID("/isthmus/cluster/east/gateway/gw1"))
			return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}}}
		}},
		"a true identity that is no gateway": {"unauthorized", func(t *testing.T) *tls.Config {
			return genuine(t, w.Domains["east.test"].Socket, intruder, west).ClientTLS([]string{"isthmus/1"}, identity.AuthorizeAny())
		}},
		"another cluster's name in the own trust domain": {"unauthorized", func(t *testing.T) *tls.Config {
			return genuine(t, west.Socket, impostor, west).ClientTLS([]string{"isthmus/1"}, identity.AuthorizeAny())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, target, "isthmus_identity_refused_total", c.reason, func() {
				cfg := c.config(t)
				cfg.MinVersion, cfg.NextProtos = tls.VersionTLS13, []string{"isthmus/1"}
				cfg.InsecureSkipVerify = true //nolint:gosec // the attacker does not care who answers
				attack(t, target.Link.String(), cfg)
			})
		})
	}
	t.Run("a wrong protocol name", func(t *testing.T) {
		cfg := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}, InsecureSkipVerify: true} //nolint:gosec // as above
		attack(t, target.Link.String(), cfg)
	})
	t.Run("no session is ever resumed", func(t *testing.T) {
		source := genuine(t, w.Domains["east.test"].Socket, w.east.ID()+"/gateway/gw1", west)
		cfg := source.ClientTLS([]string{"isthmus/1"}, identity.AuthorizeAny())
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		cfg.ServerName = "west"
		for i := range 2 {
			conn, err := quic.DialAddr(t.Context(), target.Link.String(), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // a ticket would come now
			if conn.ConnectionState().TLS.DidResume {
				t.Errorf("connection %d resumed a session", i)
			}
			_ = conn.CloseWithError(0, "")
		}
	})
}

// holding presents an SVID of a CA in memory.
func holding(ca *identitytest.CA, id spiffeid.ID) *tls.Config {
	svid := ca.SVID(id)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}}}
}

// genuine is an identity from a cluster's own CA, which trusts the other domain.
func genuine(t *testing.T, socket, id string, other *stand.Domain) *identity.Source {
	t.Helper()
	s, err := identity.New(identity.Options{WorkloadAPI: "unix://" + socket, ID: spiffeid.RequireFromString(id)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	ready, stop := context.WithTimeout(ctx, within)
	defer stop()
	if err := s.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	if other.TrustDomain != s.TrustDomain().Name() {
		document, err := os.ReadFile(other.Bundle)
		if err == nil {
			err = s.SetPeerBundle(spiffeid.RequireTrustDomainFromString(other.TrustDomain), document)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// attack dials and must not get a connection that lasts.
func attack(t *testing.T, address string, cfg *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(ctx, address, cfg, nil)
	if err != nil {
		return
	}
	// a client learns of the refusal of its certificate after its own handshake
	select {
	case <-conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Error("the connection of a stranger was accepted")
		_ = conn.CloseWithError(0, "")
	}
}

func TestCallersAreRefusedWithTheReason(t *testing.T) {
	w := newWorld(t)
	w.refuseAtTheAPI(t)
	for host, want := range map[string]struct {
		code   int
		reason string
	}{
		"nobody.default.mesh":  {http.StatusNotFound, "unknown_service"},
		"secret.default.mesh":  {http.StatusNotFound, "unknown_service"}, // exists, but is not exported
		"guarded.default.mesh": {http.StatusForbidden, "denied"},         // exported, but no intention allows
		"not a name":           {http.StatusNotFound, "unknown_authority"},
	} {
		code, reason, err := w.ask(t.Context(), host)
		if err != nil || code != want.code || !strings.Contains(reason, want.reason) {
			t.Errorf("%s: %d %q, %v; want %d %q", host, code, reason, err, want.code, want.reason)
		}
		stand.Figure(t, "%s: %d %s", host, code, reason)
	}
}

// A gateway that holds the right identity and asks for what it must not have.
func TestACompromisedPeerGatewayGetsNothingMore(t *testing.T) {
	w := newWorld(t)
	w.east.Gateways[0].Kill() // the attacker took its place
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	node, err := tunnel.New(tunnel.Options{
		PacketConn: pc, Cluster: "east", Gateway: "gw1", Handler: deaf{},
		Identity: genuine(t, w.Domains["east.test"].Socket, w.east.ID()+"/gateway/gw1", w.Domains["west.test"]),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.SetPeers([]tunnel.Peer{{
		Cluster: "west", ID: spiffeid.RequireFromString(w.west.ID()),
		Gateways: []tunnel.PeerGateway{{Name: "gw1", Addresses: []string{w.west.Gateways[0].Link.String()}}},
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = node.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })

	try := func(h wire.Header) (wire.Status, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, err := node.OpenStream(ctx, "west", &h, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		if err != nil {
			return 0, err
		}
		defer func() { _ = s.Close() }()
		reply, err := s.Status(ctx)
		return reply.Status, err
	}
	stand.Eventually(t, within, "its own rights work", func() error {
		status, err := try(wire.Header{Service: "open.default", Caller: w.east.Caller()})
		if err == nil && status != wire.OK {
			err = errors.New(status.String())
		}
		return err
	})
	for name, c := range map[string]struct {
		header wire.Header
		want   wire.Status
	}{
		"a service that is not exported":        {wire.Header{Service: "secret.default", Caller: w.east.Caller()}, wire.UnknownService}, // a peer learns no more
		"a service that nobody has":             {wire.Header{Service: "nobody.default", Caller: w.east.Caller()}, wire.UnknownService},
		"a caller that no intention allows":     {wire.Header{Service: "open.default", Caller: "spiffe://east.test/east/other"}, wire.Denied},
		"a caller of the target's own domain":   {wire.Header{Service: "open.default", Caller: "spiffe://west.test/west/client"}, wire.Denied},
		"no caller":                             {wire.Header{Service: "open.default"}, wire.Denied},
		"another cluster's federation":          {wire.Header{Service: "federation.east", Caller: w.east.Caller()}, wire.UnknownService},
		"an address in place of a service name": {wire.Header{Service: "127.0.0.1", Caller: w.east.Caller()}, wire.UnknownService},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := try(c.header)
			if err != nil {
				t.Fatalf("got %v, want a typed refusal", err)
			}
			if status != c.want {
				t.Errorf("answered %s, want %s", status, c.want)
			}
			stand.Figure(t, "refused as %q", status)
		})
	}
	// the own operators learn the reason
	for _, reason := range []string{"not_exported", "default_deny", "caller_not_asserted"} {
		if w.west.Gateways[0].LogCount(reason) == 0 {
			t.Errorf("the gateway has not logged %q", reason)
		}
		if counted(t, w.west.Gateways[0], `isthmus_gateway_\S*\{[^}]*"`+reason+`"`) == 0 {
			t.Errorf("the gateway has not counted %q", reason)
		}
	}
}

// deaf serves nothing.
type deaf struct{}

func (deaf) ServeStream(_ context.Context, in *tunnel.Inbound) { _ = in.Refuse(wire.Denied, "") }
func (deaf) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	tunnel.Refuse(w, wire.Reply{Status: wire.Denied})
}
func (deaf) HandleReport(_ tunnel.Remote, _ wire.Report) {}
func (deaf) HandleLoad(_ tunnel.Remote, _ wire.Load)     {}
