package rotation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

const (
	within = time.Minute
	// A root lives four SVIDs: the next one is published at its half, signs from
	// three quarters on, and is alone after its end.
	svidTTL = 8 * time.Second
	rootTTL = 4 * svidTTL
	// The load outlasts the first roots.
	loadFor    = rootTTL + 4*time.Second
	callsEach  = 100 // per second
	streams    = 20  // byte streams, and as many requests that never end
	handshakes = 10_000
	dialers    = 8 // at a time
)

// TestRotationUnderLoad is the whole promise on real processes: two CAs, two
// federations, two gateways.
func TestRotationUnderLoad(t *testing.T) {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test", TCP: map[string]string{"echo": "echo.default"}},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	east, west := s.Clusters[0], s.Clusters[1]
	for _, d := range s.Domains {
		d.SVIDTTL, d.CATTL = svidTTL, rootTTL
	}
	west.WriteCatalog(t,
		stand.Service{Name: "echo.default", Port: "main", Protocol: "tcp", Addresses: []string{stand.EchoServer(t).String()}},
		stand.Service{Name: "web.default", Port: "main", Protocol: "http", Addresses: []string{stand.EchoWeb(t).String()}},
	)
	s.Start()
	gw := east.Gateways[0]
	call := func(ctx context.Context) (string, error) { return callWeb(ctx, gw.HTTP) }
	stand.Eventually(t, within, "a call crosses", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := call(ctx)
		return err
	})
	roots := map[string]map[string]bool{}
	for name, d := range s.Domains {
		roots[name] = authorities(t, d)
	}
	before := [2]state{look(t, gw), look(t, west.Gateways[0])}

	var echoed, cut atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	keep := func(name string, conn io.ReadWriter) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(200 * time.Millisecond):
				}
				if err := echoOnce(conn, fmt.Sprintf("%08d", i)); err != nil {
					cut.Add(1)
					t.Errorf("%s after %d echoes: %v", name, i, err)
					return
				}
				echoed.Add(1)
			}
		})
	}
	for i := range streams {
		conn, err := net.DialTimeout("tcp", gw.TCP["echo"].String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		keep(fmt.Sprintf("stream %d", i), conn)
		body, out := longRequest(t, gw.HTTP)
		defer func() { _ = out.Close() }()
		keep(fmt.Sprintf("request %d", i), struct {
			io.Reader
			io.Writer
		}{body, out})
	}
	calls := stand.StartLoad(t.Context(), callsEach, 10*time.Second, call)
	shaking := time.Now()
	shaken := shakeHands(t, newCaller(t, east, west), newCaller(t, west, east))
	time.Sleep(loadFor - time.Since(shaking))
	results := calls.Stop()
	close(done)
	wg.Wait()

	if failed := results.Failed(); len(failed) > 0 || len(results) < int(loadFor.Seconds())*callsEach*8/10 {
		t.Errorf("%d of %d calls failed:\n%s", len(failed), len(results), results.Errors())
	}
	if failed := shaken.Failed(); len(failed) > 0 || len(shaken) != handshakes {
		t.Errorf("%d of %d handshakes failed:\n%s", len(failed), len(shaken), shaken.Errors())
	}
	replaced := 0
	for name, d := range s.Domains {
		now := authorities(t, d)
		for root := range roots[name] {
			if now[root] {
				t.Errorf("%s: a root of the beginning is still there", name)
			} else {
				replaced++
			}
		}
	}
	for i, g := range []*stand.Gateway{gw, west.Gateways[0]} {
		now := look(t, g)
		rotated, proven := now.rotations-before[i].rotations, now.proven-before[i].proven
		// A link in each direction, and on each a proof of each end per rotation.
		if rotated < 5 || proven < 2*rotated {
			t.Errorf("%s: %v rotations, %v certificates proven", g.Name, rotated, proven)
		}
		if n := now.strangers - before[i].strangers; n != 0 {
			t.Errorf("%s: %v handshakes were refused", g.Name, n)
		}
		if n := int(now.judged - before[i].judged); n < len(shaken)*4/10 {
			t.Errorf("%s: %d inbound handshakes of %d", g.Name, n, len(shaken))
		}
		if now.closed != before[i].closed {
			t.Errorf("%s: %v links were closed", g.Name, now.closed-before[i].closed)
		}
		stand.Figure(t, "%s: own svid and bundles changed %v times, %v certificates proven on live links (%v refused at first, and proven later), %v links closed",
			[]string{"east", "west"}[i], rotated, proven, now.refused-before[i].refused, now.closed-before[i].closed)
	}
	stand.Figure(t, "svids of %s, roots of %s (%d replaced), %s: %d calls, %d failed; %d handshakes, %d failed; %d streams and requests echoed %d times, %d cut",
		svidTTL, rootTTL, replaced, loadFor, len(results), len(results.Failed()), len(shaken), len(shaken.Failed()), 2*streams, echoed.Load(), cut.Load())
}

// state is what a gateway's metrics say.
type state struct{ rotations, proven, refused, closed, strangers, judged float64 }

func look(t *testing.T, g *stand.Gateway) state {
	t.Helper()
	body, err := stand.Get("http://" + g.Admin.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	s := state{
		rotations: sum(t, body, `isthmus_identity_updates_total\{origin="workload_api",outcome="applied"[^}]*\}`),
		proven:    sum(t, body, `isthmus_tunnel_reauthentications_total\{[^}]*result="ok"\}`),
		closed:    sum(t, body, `isthmus_tunnel_links_closed_total\{[^}]*\}`),
		strangers: sum(t, body, `isthmus_identity_refused_total\{[^}]*\}`),
		judged:    sum(t, body, `isthmus_tunnel_connections_accepted_total\{[^}]*\}`),
	}
	s.refused = sum(t, body, `isthmus_tunnel_reauthentications_total\{[^}]*\}`) - s.proven
	return s
}

func sum(t *testing.T, metrics []byte, pattern string) (total float64) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^`+pattern+` (\S+)$`).FindAllSubmatch(metrics, -1) {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		total += v
	}
	return total
}

// authorities are the roots in a domain's bundle file.
func authorities(t *testing.T, d *stand.Domain) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(d.Bundle)
	var document struct {
		Keys []struct {
			X5C []string `json:"x5c"`
		} `json:"keys"`
	}
	if err == nil {
		err = json.Unmarshal(data, &document)
	}
	if err != nil || len(document.Keys) == 0 {
		t.Fatalf("bundle of %s: %v", d.TrustDomain, err)
	}
	roots := map[string]bool{}
	for _, k := range document.Keys {
		roots[fmt.Sprint(k.X5C)] = true
	}
	return roots
}

func callWeb(ctx context.Context, way netip.AddrPort) (string, error) {
	resp, err := stand.Send(ctx, way, "/", nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// longRequest is one request whose body and answer go on until out is closed.
func longRequest(t *testing.T, way netip.AddrPort) (body io.Reader, out io.WriteCloser) {
	t.Helper()
	in, out := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	resp, err := stand.Send(ctx, way, "/echo", in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body, out
}

// echoOnce sends a text and wants it back.
func echoOnce(conn io.ReadWriter, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(text)) {
		return fmt.Errorf("%q came back as %q", text, got)
	}
	return nil
}

// newTransport dials from one loopback socket.
func newTransport(t *testing.T) *quic.Transport {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: conn}
	t.Cleanup(func() {
		_ = tr.Close()
		_ = conn.Close()
	})
	return tr
}

func udpAddr(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }
