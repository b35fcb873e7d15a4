package identity_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

const (
	// patience bounds what must come; it is no measure.
	patience = time.Minute
	alpn     = "suite/1"
	// rotations are waited for; each is a third to two thirds of a life.
	rotations = 3
)

func TestIdentity(t *testing.T) {
	gwID := spiffeid.RequireFromString(gw)
	for _, tt := range []struct {
		name string
		make func(t *testing.T) issuer
	}{
		{"the embedded CA", func(t *testing.T) issuer { return newAuthority(t, true) }},
		{"SPIRE", func(t *testing.T) issuer { return newSpire(t, web, gw) }},
		{"files rewritten in place", func(t *testing.T) issuer { return newKept(t, newAuthority(t, false), inPlace) }},
		{"files swapped by a link, and lost", func(t *testing.T) issuer {
			k := newKept(t, newAuthority(t, false), swapped)
			k.vanish = true
			return k
		}},
		{"files written by SPIRE's agent", func(t *testing.T) issuer {
			k := newKept(t, newSpire(t, gw), fetched)
			dir := k.files.Directory
			k.files.Directory = ""
			k.files.Certificate, k.files.Key, k.files.Bundle = filepath.Join(dir, "svid.0.pem"), filepath.Join(dir, "svid.0.key"), filepath.Join(dir, "bundle.0.pem")
			return k
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &suite{issuer: tt.make(t), id: gwID, cache: filepath.Join(t.TempDir(), "cache"), abroad: identitytest.NewCA(foreign)}
			s.federate(s.abroad.BundleJSON(1))
			s.start()
			s.source = s.run(t, identity.Options{ID: gwID, CacheFile: s.cache, Log: slog.New(slog.NewJSONHandler(&s.log, nil)), Registerer: s.registry()})
			for _, step := range []struct {
				name string
				run  func(*testing.T)
			}{
				{"the first svid", s.first},
				{"a wrong id", s.wrongID},
				{"renewal", s.renewal},
				{"the bundle of another domain", s.bundle},
				{"its source is gone", s.gone},
				{"and back", s.back},
			} {
				if !t.Run(step.name, step.run) {
					t.Fatalf("the log:\n%s", s.log.String())
				}
			}
		})
	}
}

// suite is the state that one issuer's steps share.
type suite struct {
	issuer
	id     spiffeid.ID
	source *identity.Source
	cache  string
	abroad *identitytest.CA
	log    lines
	reg    *prometheus.Registry
}

func (s *suite) registry() *prometheus.Registry {
	s.reg = prometheus.NewRegistry()
	return s.reg
}

// run starts a source of the issuer until the end of the test.
func (s *suite) run(t *testing.T, o identity.Options) *identity.Source {
	t.Helper()
	from := s.options()
	o.WorkloadAPI, o.Files = from.WorkloadAPI, from.Files
	src, err := identity.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := src.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return src
}

func (s *suite) ready(t *testing.T, src *identity.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := src.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) gauge(t *testing.T, name string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func (s *suite) first(t *testing.T) {
	begin := time.Now()
	s.ready(t, s.source)
	if s.source.ID() != s.id || s.source.TrustDomain() != s.id.TrustDomain() {
		t.Errorf("it is %s of %s", s.source.ID(), s.source.TrustDomain())
	}
	if err := handshake(s.source, s.source); err != nil {
		t.Error(err)
	}
	if stands, err := s.source.Standing(); stands != identity.StandingGood {
		t.Errorf("stands %s: %v", stands, err)
	}
	if s.several() {
		first, named := s.run(t, identity.Options{}), s.run(t, identity.Options{ID: spiffeid.RequireFromString(web)})
		s.ready(t, first)
		s.ready(t, named)
		if named.ID().String() != web {
			t.Errorf("of several, %s was picked for %s", named.ID(), web)
		}
	}
	stand.Figure(t, "first svid after %.1f s", time.Since(begin).Seconds())
}

func (s *suite) wrongID(t *testing.T) {
	src := s.run(t, identity.Options{ID: spiffeid.RequireFromString("spiffe://" + domain + "/nobody")})
	var err error
	stand.Eventually(t, patience, "the refusal", func() error {
		if err = src.Ready(); !errors.Is(err, identity.ErrIDNotOffered) {
			return errors.Join(errors.New("not refused for its id"), err)
		}
		return nil
	})
	missing, ok := errors.AsType[*identity.NotReadyError](err)
	if !ok || len(missing.Offered) == 0 || !strings.Contains(err.Error(), gw) {
		t.Errorf("it does not say what is offered: %v", err)
	}
	if err := handshake(src, s.source); reasonOf(err) != identity.ReasonOwnSVIDMissing {
		t.Errorf("a handshake without an svid: %v", err)
	}
}

func (s *suite) renewal(t *testing.T) {
	calls := s.keepCalling()
	begin, seen := time.Now(), map[string]bool{s.source.Serial(): true}
	stand.Eventually(t, patience, "renewals", func() error {
		if seen[s.source.Serial()] = true; len(seen) <= rotations {
			return errors.New("too few")
		}
		return nil
	})
	done, failed := calls.stop()
	stand.Figure(t, "%d renewals in %.1f s: %d handshakes, %d failed", rotations, time.Since(begin).Seconds(), done, len(failed))
	if done == 0 || len(failed) > 0 {
		t.Errorf("%d handshakes, failed: %v", done, errors.Join(failed...))
	}
	if s.gauge(t, "isthmus_identity_svid_renewal_overdue") != 0 {
		t.Error("alarm without a reason")
	}
}

func (s *suite) bundle(t *testing.T) {
	renewed := identitytest.NewCA(foreign)
	td := s.abroad.TrustDomain()
	trusts := func(ca *identitytest.CA) error {
		_, err := s.source.VerifyPeer(ca.SVID(ca.ID("/peer")).Certificates)
		return err
	}
	stand.Eventually(t, patience, "the first bundle", func() error {
		s.knowForeign()
		return trusts(s.abroad)
	})
	if err := trusts(renewed); reasonOf(err) != identity.ReasonUntrustedChain {
		t.Errorf("a root that was not announced: %v", err)
	}
	begin := time.Now()
	s.federate(identitytest.BundleJSON(td, 2, s.abroad.Certificate(), renewed.Certificate()))
	stand.Eventually(t, patience, "both roots", func() error { return errors.Join(trusts(s.abroad), trusts(renewed)) })
	joined := time.Since(begin)
	begin = time.Now()
	s.federate(renewed.BundleJSON(3))
	stand.Eventually(t, patience, "the old root leaves", func() error {
		if reasonOf(trusts(s.abroad)) != identity.ReasonUntrustedChain {
			return errors.New("still trusted")
		}
		return trusts(renewed)
	})
	stand.Figure(t, "a root joins within %.1f s, one leaves within %.1f s", joined.Seconds(), time.Since(begin).Seconds())
}

// knowForeign gives SPIRE's entries the foreign domain, which needs its bundle.
func (s *suite) knowForeign() {
	r, ok := s.issuer.(*spireAgent)
	if !ok || strings.Contains(string(r.CLI("entry", "show", "-spiffeID", gw)), foreign) {
		return
	}
	for line := range strings.Lines(string(r.CLI("entry", "show", "-spiffeID", gw))) {
		if id, ok := strings.CutPrefix(strings.ReplaceAll(line, " ", ""), "EntryID:"); ok {
			r.CLI("entry", "update", "-entryID", strings.TrimSpace(id), "-parentID", "spiffe://"+domain+"/node", "-spiffeID", gw,
				"-selector", "unix:uid:"+uid(), "-x509SVIDTTL", "8", "-federatesWith", "spiffe://"+foreign)
		}
	}
}

func (s *suite) gone(t *testing.T) {
	svid := s.held()
	s.stop()
	lost := time.Now()
	calls := s.keepCalling()
	var alarm time.Duration
	stand.Eventually(t, patience, "alarm", func() error {
		if s.gauge(t, "isthmus_identity_svid_renewal_overdue") != 1 {
			return errors.New("quiet")
		}
		alarm = time.Since(lost)
		return nil
	})
	left := s.source.NotAfter().Sub(lost) // what was on its way was still taken
	// Full service, also after the alarm.
	stands, why := s.source.Standing()
	if stands == identity.StandingDegraded && s.source.Ready() != nil {
		t.Errorf("degraded is not unready: %v", s.source.Ready())
	}
	stand.Eventually(t, patience, "an error in the log", func() error {
		if !strings.Contains(s.log.String(), `"level":"ERROR","msg":"svid renewal overdue"`) {
			return errors.New("not yet")
		}
		return nil
	})
	data, err := os.ReadFile(s.cache)
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(cache, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if time.Until(s.source.NotAfter()) > time.Second {
		restarted := s.run(t, identity.Options{ID: s.id, CacheFile: cache})
		if err := restarted.Ready(); err != nil {
			t.Errorf("a restart from the cache: %v", err)
		}
		if err := handshake(restarted, s.source); err != nil {
			t.Errorf("after a restart from the cache: %v", err)
		}
	}
	stand.Eventually(t, patience, "expiry", func() error {
		if stands, _ := s.source.Standing(); stands != identity.StandingExpired {
			return errors.New(string(stands))
		}
		return nil
	})
	done, failed := calls.stop()
	early := 0
	for _, err := range failed {
		if reasonOf(err) != identity.ReasonOwnSVIDExpired {
			t.Errorf("failed for another reason than expiry: %v", err)
		}
		if at := new(failure); errors.As(err, &at) && at.when.Before(s.source.NotAfter()) {
			early++
		}
	}
	stand.Figure(t, "%.1f s were left: alarm after %.1f s (%s), %d handshakes until the end, %d failed before it", left.Seconds(), alarm.Seconds(), stands, done, early)
	if done == 0 || early > 0 || why == nil {
		t.Errorf("%d handshakes, %d failed early, the alarm's reason: %v", done, early, why)
	}

	// Expired is never presented...
	if err := handshake(s.source, s.source); reasonOf(err) != identity.ReasonOwnSVIDExpired {
		t.Errorf("an expired svid was presented: %v", err)
	}
	late := s.run(t, identity.Options{ID: s.id, CacheFile: cache})
	if err := late.Ready(); !errors.Is(err, identity.ErrCacheExpired) {
		t.Errorf("a restart from an expired cache: %v", err)
	}
	// ...nor accepted from one that presents it nevertheless. (The embedded CA issues
	// to each who asks, so that this one may live on for a moment.)
	time.Sleep(time.Until(svid.Certificates[0].NotAfter.Add(time.Second)))
	if err := s.refusal(t, svid); reasonOf(err) != identity.ReasonExpired {
		t.Errorf("an expired svid was accepted: %v", err)
	}
}

// refusal is what a server of another domain says to who presents an svid.
func (s *suite) refusal(t *testing.T, svid *x509svid.SVID) error {
	t.Helper()
	document, err := s.source.TrustBundle()
	if err != nil {
		t.Fatal(err)
	}
	server := s.abroad.Source(s.abroad.ID("/server"))
	if err := server.SetPeerBundle(s.id.TrustDomain(), document); err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	client := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{alpn}} //nolint:gosec // the server is what is tested
	return over(client, server.ServerTLS([]string{alpn}, identity.AuthorizeAny()))
}

func (s *suite) back(t *testing.T) {
	begin := time.Now()
	s.start()
	stand.Eventually(t, patience, "recovery", func() error {
		if _, err := s.source.Standing(); err != nil {
			return err
		}
		return errors.Join(s.source.Ready(), handshake(s.source, s.source))
	})
	stand.Eventually(t, patience, "the end of the alarm", func() error {
		if s.gauge(t, "isthmus_identity_svid_renewal_overdue") != 0 || s.gauge(t, "isthmus_identity_source_failing") != 0 {
			return errors.New("still on")
		}
		return nil
	})
	stand.Figure(t, "full service again after %.1f s", time.Since(begin).Seconds())
}

// calling makes handshakes at a steady rate between the source and itself.
type calling struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   atomic.Int64
	mu     sync.Mutex
	failed []error
}

// failure is a handshake that failed, and when it began.
type failure struct {
	when time.Time
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func (s *suite) keepCalling() *calling {
	ctx, cancel := context.WithCancel(context.Background())
	c := &calling{cancel: cancel}
	c.wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			begin := time.Now()
			if err := handshake(s.source, s.source); err != nil {
				// It may have ended in a handshake that began before.
				if reasonOf(err) == identity.ReasonOwnSVIDExpired {
					begin = time.Now()
				}
				c.mu.Lock()
				c.failed = append(c.failed, &failure{begin, err})
				c.mu.Unlock()
				continue
			}
			c.done.Add(1)
		}
	})
	return c
}

func (c *calling) stop() (done int64, failed []error) {
	c.cancel()
	c.wg.Wait()
	return c.done.Load(), c.failed
}

// handshake is mutual TLS over TCP between two sources.
func handshake(client, server *identity.Source) error {
	return over(client.ClientTLS([]string{alpn}, identity.AuthorizeAny()), server.ServerTLS([]string{alpn}, identity.AuthorizeAny()))
}

// over joins what the server and the client say of a handshake.
func over(client, server *tls.Config) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer func() { _ = conn.Close() }()
		s := tls.Server(conn, server)
		if err := s.HandshakeContext(ctx); err != nil {
			served <- err
			return
		}
		_, err = s.Write([]byte("ok"))
		served <- errors.Join(err, s.CloseWrite())
	}()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	c := tls.Client(conn, client)
	cerr := c.HandshakeContext(ctx)
	if cerr == nil {
		_, cerr = io.ReadAll(c)
	}
	_ = conn.Close()
	return errors.Join(<-served, cerr)
}

// reasonOf is why a handshake was refused.
func reasonOf(err error) identity.Reason {
	if refused, ok := errors.AsType[*identity.PeerError](err); ok {
		return refused.Reason
	}
	return ""
}

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
