package tunnel_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// rotor is a gateway's identity whose SVID and authorities a test rotates.
type rotor struct {
	t      *testing.T
	spec   tunneltest.Spec
	source *identity.Source
	life   time.Duration
	// signs issues; all are trusted, by the own side and by peers, under a bundle
	// whose sequence counts up.
	signs    *identitytest.CA
	all      []*identitytest.CA
	sequence uint64
	peers    []*identity.Source
}

func newRotor(t *testing.T, cluster, domain string, life time.Duration) *rotor {
	t.Helper()
	r := &rotor{t: t, life: life, signs: identitytest.NewCA(domain), sequence: 1}
	r.spec = tunneltest.Spec{Cluster: cluster, Gateway: "gw1", TrustDomain: domain, Handler: promptEcho()}
	r.all = []*identitytest.CA{r.signs}
	r.source = identity.NewStatic(r.mint(), r.bundle())
	r.spec.Identity = r.source
	return r
}

func (r *rotor) mint() *x509svid.SVID {
	return r.signs.Mint(identitytest.Leaf{URIs: []string{r.spec.GatewayID().String()}, NotAfter: time.Now().Add(r.life)})
}

func (r *rotor) certificates() (all []*x509.Certificate) {
	for _, ca := range r.all {
		all = append(all, ca.Certificate())
	}
	return all
}

func (r *rotor) bundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(r.signs.TrustDomain(), r.certificates())
}

// rotate issues a new SVID.
func (r *rotor) rotate() {
	r.t.Helper()
	if err := r.source.ReplaceStatic(r.mint(), r.bundle()); err != nil {
		r.t.Fatal(err)
	}
}

// trust makes authorities the bundle, here and at the peers.
func (r *rotor) trust(all ...*identitytest.CA) {
	r.t.Helper()
	r.all = all
	r.rotate()
	r.tell()
}

// tell gives the bundle to the peers.
func (r *rotor) tell() {
	r.t.Helper()
	r.sequence++
	for _, p := range r.peers {
		if err := p.SetPeerBundle(r.signs.TrustDomain(), identitytest.BundleJSON(r.signs.TrustDomain(), r.sequence, r.certificates()...)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// rotors are two gateways of two trust domains, linked both ways.
func rotors(t *testing.T, life time.Duration, options func(*tunnel.Options), changes ...func(*tunneltest.Spec)) (m *tunneltest.Mesh, east, west *rotor, a, b *tunneltest.Gateway) {
	t.Helper()
	m = tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
	east, west = newRotor(t, "east", "a.test", life), newRotor(t, "west", "b.test", life)
	east.peers, west.peers = []*identity.Source{west.source}, []*identity.Source{east.source}
	east.tell()
	west.tell()
	east.spec.Options = options
	for _, change := range changes {
		change(&east.spec)
		change(&west.spec)
	}
	a, b = m.Add(east.spec), m.Add(west.spec)
	return m, east, west, a, b
}

// TestRotationCostsNoStream rotates SVIDs and roots of both domains under fifty
// streams and as many requests that never pause: nothing is cut, and no link is
// replaced.
func TestRotationCostsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			life      = 20 * time.Second
			streams   = 50
			rotations = 24 // of each end, one every half life
			rootEvery = 4  // rotations
		)
		registry := prometheus.NewRegistry()
		m, east, west, a, b := rotors(t, life, func(o *tunnel.Options) { o.Registerer = registry })
		defer m.Close()
		m.Connect()
		first, back := a.WaitLink(b, tunnel.StateUp), b.WaitLink(a, tunnel.StateUp)

		var wg sync.WaitGroup
		var echoed, failed atomic.Int64
		done := make(chan struct{})
		keep := func(one func(payload []byte) error) {
			wg.Go(func() {
				payload := []byte("0123456789abcdef")
				for {
					select {
					case <-done:
						return
					case <-time.After(2 * time.Second):
					}
					if err := one(payload); err != nil {
						failed.Add(1)
						t.Errorf("at %v: %v", time.Now(), err)
						return
					}
					echoed.Add(1)
				}
			})
		}
		for i := range streams {
			from, to := a, "west"
			if i%2 == 1 {
				from, to = b, "east"
			}
			s, err := from.OpenStream(t.Context(), to, echoHeader(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			keep(func(p []byte) error { return echoOnce(s, p) })
			// A request whose body and answer are as long as the test.
			in, out := io.Pipe()
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://echo.default/", in)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := from.RoundTrip(to, echoHeader(), req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			defer out.Close()
			keep(func(p []byte) error { return echoOnce(readWriter{resp.Body, out}, p) })
		}

		roots := 0
		for turn := range rotations {
			for _, r := range []*rotor{east, west} {
				switch {
				case turn%rootEvery == 1: // the next root is published
					r.all = append(r.all, identitytest.NewCA(r.signs.TrustDomain().Name()))
					r.trust(r.all...)
				case turn%rootEvery == 2: // it signs
					r.signs = r.all[len(r.all)-1]
					r.rotate()
				case turn%rootEvery == 0 && len(r.all) > 1: // the one before leaves
					r.trust(r.signs)
					roots++
				default:
					r.rotate()
				}
				time.Sleep(life / 4) // the two ends take turns
			}
		}
		close(done)
		wg.Wait()

		if now := a.WaitLink(b, tunnel.StateUp); !now.Since.Equal(first.Since) {
			t.Errorf("the link was replaced at %v", now.Since)
		}
		if now := b.WaitLink(a, tunnel.StateUp); !now.Since.Equal(back.Since) {
			t.Errorf("the other link was replaced at %v", now.Since)
		}
		if n := len(a.Links()); n != 2 {
			t.Errorf("%d links", n)
		}
		count := reauthentications(t, registry)
		// Two links, both directions, seen from one end.
		if want := 2 * 2 * rotations; int(count["ok"]) < want-4 || len(count) != 1 {
			t.Errorf("re-authentications %v, want about %d", count, want)
		}
		t.Logf("figure: %d rotations of svids, %d of roots, %v re-authentications at one end: %d streams and requests echoed %d times, %d cut",
			2*rotations, roots, count["ok"], 2*streams, echoed.Load(), failed.Load())
	})
}

// promptEcho is tunneltest.Echo whose answers to requests begin at once and whose
// bytes do not wait for more.
func promptEcho() tunneltest.Handler {
	h := tunneltest.Echo()
	h.HTTP = func(w http.ResponseWriter, r *http.Request) {
		flush := http.NewResponseController(w).Flush
		buf := make([]byte, 4<<10)
		for err := flush(); err == nil; {
			var n int
			if n, err = r.Body.Read(buf); n > 0 {
				_, _ = w.Write(buf[:n])
				_ = flush()
			}
		}
	}
	return h
}

type readWriter struct {
	io.Reader
	io.Writer
}

// echoOnce sends p and wants it back.
func echoOnce(s io.ReadWriter, p []byte) error {
	if _, err := s.Write(p); err != nil {
		return err
	}
	got := make([]byte, len(p))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if !bytes.Equal(got, p) {
		return io.ErrNoProgress
	}
	return nil
}

// reauthentications sums the counter by result.
func reauthentications(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "isthmus_tunnel_reauthentications_total" {
			continue
		}
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if l.GetName() == "result" {
					sum[l.GetValue()] += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// An end without re-authentication, one of an older version, gets a new link
// instead, and its streams finish on the old one.
func TestOlderPeerIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = time.Minute
		m, east, west, a, b := rotors(t, life, nil)
		defer m.Close()
		b.WithoutReauthentication()
		m.Connect()
		first := a.WaitLink(b, tunnel.StateUp)
		old := openIdle(t, a)
		defer old.Close()
		end := time.Now().Add(life)
		time.Sleep(life / 2)
		east.rotate()
		west.rotate()
		time.Sleep(life * 2 / 5)
		if l := a.WaitLink(b, tunnel.StateUp); l.Since.Equal(first.Since) {
			t.Errorf("not renewed: %+v", l)
		}
		if err := echoOnce(old, []byte("y")); err != nil {
			t.Errorf("old stream: %v", err)
		}
		fresh := openIdle(t, a)
		defer fresh.Close()
		time.Sleep(time.Until(end) + time.Second)
		if err := echoOnce(old, []byte("y")); err == nil {
			t.Error("the old stream outlives the certificate that its link was opened with")
		}
		if err := echoOnce(fresh, []byte("y")); err != nil {
			t.Errorf("new stream: %v", err)
		}
	})
}

// A peer whose bundle is behind refuses the proof, and asks again when the bundle
// has come: the link goes on as if nothing had been.
func TestBundleThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		const life = 2 * time.Minute
		m, east, _, a, b := rotors(t, life, func(o *tunnel.Options) { o.Registerer = registry })
		defer m.Close()
		m.Connect()
		first := a.WaitLink(b, tunnel.StateUp)
		time.Sleep(life / 2)
		east.signs = identitytest.NewCA("a.test")
		east.all = append(east.all, east.signs)
		east.rotate() // and the peer knows nothing of the new root
		time.Sleep(12 * time.Second)
		if count := reauthentications(t, registry); count["revoked"] < 2 || count["ok"] != 0 {
			t.Errorf("before the bundle: %v", count)
		}
		if got := b.WaitLink(a, tunnel.StateUp).PeerNotAfter; time.Until(got) > life/2 {
			t.Errorf("the peer holds a certificate until %v", got)
		}
		east.tell()
		time.Sleep(time.Second)
		if count := reauthentications(t, registry); count["ok"] != 2 { // one per link
			t.Errorf("after the bundle: %v", count)
		}
		l := b.WaitLink(a, tunnel.StateUp)
		if left := time.Until(l.PeerNotAfter); left < life-20*time.Second {
			t.Errorf("the certificate held ends in %v", left)
		}
		leaf := east.source.Certificate()
		if l.PeerSerial != leaf.SerialNumber.Text(16) || len(l.PeerAuthority) != 40 {
			t.Errorf("link %+v", l)
		}
		if now := a.WaitLink(b, tunnel.StateUp); !now.Since.Equal(first.Since) {
			t.Error("the link was replaced")
		}
	})
}

// Without a successor everything ends at NotAfter, at the second, whoever dialed:
// streams end typed, and no new handshake is begun with an SVID that has ended.
func TestSourceThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 2 * time.Minute
		registry := prometheus.NewRegistry()
		m, east, west, a, b := rotors(t, life, func(o *tunnel.Options) { o.Registerer = registry })
		defer m.Close()
		m.Connect()
		end := east.source.NotAfter()
		near, far := openIdle(t, a), openTo(t, b, "east")
		defer near.Close()
		defer far.Close()
		for time.Until(end) > time.Second { // west goes on, east does not
			time.Sleep(min(life/3, time.Until(end)-time.Second))
			west.rotate()
			for name, s := range map[string]*tunnel.Stream{"near": near, "far": far} {
				if err := echoOnce(s, []byte("y")); err != nil {
					t.Fatalf("%s stream, %v before the end: %v", name, time.Until(end), err)
				}
			}
		}
		for name, s := range map[string]*tunnel.Stream{"near": near, "far": far} {
			_, err := s.Read(make([]byte, 1))
			expectRevoked(t, name, err)
			if late := time.Since(end); late < 0 || late > 2*delay {
				t.Errorf("%s stream ended %v after the certificate", name, late)
			}
		}
		time.Sleep(10 * time.Second)
		for _, l := range append(a.Links(), b.Links()...) {
			if l.State != tunnel.StateDown && l.State != tunnel.StateConnecting {
				t.Errorf("link %+v", l)
			}
		}
		if l := a.Links(); len(l) != 1 || l[0].Reason != string(identity.ReasonOwnSVIDExpired) {
			t.Errorf("links of the expired: %+v", l)
		}
		if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
			t.Error("a stream was opened with an expired svid")
		}
		if n := testutil.CollectAndCount(registry, "isthmus_tunnel_certificate_end_seconds"); n != 0 {
			t.Errorf("%d gauges of links that are gone", n)
		}
		// The source is back: so is everything.
		east.rotate()
		a.WaitLink(b, tunnel.StateUp)
		b.WaitLink(a, tunnel.StateUp)
	})
}
