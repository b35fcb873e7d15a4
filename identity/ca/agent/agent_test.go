package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca"
	"github.com/isthmus-mesh/isthmus/identity/ca/agent"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 40 * time.Second // for what must come; no measure

var domain = spiffeid.RequireTrustDomainFromString("hosts.test")

func id(path string) spiffeid.ID { return spiffeid.RequireFromPath(domain, path) }

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// site is a CA's host and those that join it.
type site struct {
	t    *testing.T
	dir  string
	cfg  ca.Config
	ca   *ca.CA
	stop func()
}

func newSite(t *testing.T, entries ...ca.Entry) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return &site{t: t, dir: dir, cfg: ca.Config{
		TrustDomain: domain, Dir: filepath.Join(dir, "keys"), Socket: filepath.Join(dir, "ca.sock"), Entries: entries,
		Hosts: ca.Hosts{Address: l.Addr().String()},
	}}
}

func (s *site) start() *site {
	s.t.Helper()
	c, err := ca.New(s.cfg, ca.Options{Log: slog.New(slog.NewTextHandler(s.t.Output(), nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	s.ca = c
	s.stop = background(s.t, c.Run)
	ready(s.t, c)
	eventually(s.t, "hosts and the operator are served", func() bool {
		for network, address := range map[string]string{"tcp": s.cfg.Hosts.Address, "unix": ca.OperatorSocket(s.cfg.Dir)} {
			conn, err := net.Dial(network, address)
			if err != nil {
				return false
			}
			_ = conn.Close()
		}
		return true
	})
	return s
}

func ready(t *testing.T, w interface{ WaitReady(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// operator asks at the operator's socket.
func (s *site) operator(method, path string, in, out any) int {
	s.t.Helper()
	code, err := ca.AskOperator(s.t.Context(), s.cfg.Dir, method, path, in, out)
	if err != nil && code == 0 {
		s.t.Fatal(err)
	}
	return code
}

func (s *site) token(host string, ttl time.Duration, ids ...string) string {
	s.t.Helper()
	var out ca.TokenAnswer
	if code := s.operator("POST", "/v1/tokens", ca.TokenRequest{Host: host, TTLSeconds: int64(ttl / time.Second), IDs: ids}, &out); code != 200 {
		s.t.Fatalf("token: %d", code)
	}
	return out.Token
}

func (s *site) config(host, token string) agent.Config {
	return agent.Config{Dir: filepath.Join(s.dir, host), Socket: filepath.Join(s.dir, host+".sock"), Token: token}
}

// join runs an agent until stop.
func (s *site) join(cfg agent.Config) (a *agent.Agent, stop func()) {
	s.t.Helper()
	a, err := agent.New(cfg, agent.Options{Log: slog.New(slog.NewTextHandler(s.t.Output(), nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	stop = background(s.t, a.Run)
	ready(s.t, a)
	return a, stop
}

// fails runs an agent that must not come to serve.
func (s *site) fails(cfg agent.Config, want error) error {
	s.t.Helper()
	a, err := agent.New(cfg, agent.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err = a.Run(ctx); !errors.Is(err, want) {
		s.t.Fatalf("got %v, want %v", err, want)
	}
	return err
}

func fetch(t *testing.T, address string) (*workloadapi.X509Context, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl, err := workloadapi.New(ctx, workloadapi.WithAddr(address))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cl.Close() }()
	return cl.FetchX509Context(ctx)
}

// A host joins with a token and serves what the CA allows it, which a workload of
// the CA's own host trusts, and the other way round; go-spiffe is the client.
func TestHostJoinsAndServes(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/here")}, ca.Entry{ID: id("/there"), Host: "web-1", Hint: "x"}, ca.Entry{ID: id("/elsewhere"), Host: "web-2"}).start()
	a, _ := s.join(s.config("web-1", s.token("web-1", time.Minute, id("/extra").String())))
	x, err := fetch(t, a.Address())
	if err != nil {
		t.Fatal(err)
	}
	if len(x.SVIDs) != 2 || x.SVIDs[0].ID != id("/there") || x.SVIDs[0].Hint != "x" || x.SVIDs[1].ID != id("/extra") {
		t.Fatalf("the host serves %v", x.SVIDs)
	}
	here, err := fetch(t, s.ca.Address())
	if err != nil {
		t.Fatal(err)
	}
	if len(here.SVIDs) != 1 || here.SVIDs[0].ID != id("/here") {
		t.Fatalf("the ca's own host serves %v", here.SVIDs)
	}
	bundle, err := here.Bundles.GetX509BundleForTrustDomain(domain)
	if err != nil {
		t.Fatal(err)
	}
	there := identity.NewStatic(x.SVIDs[0], bundle)
	if _, err := there.VerifyPeer(here.SVIDs[0].Certificates); err != nil {
		t.Error(err)
	}
	if _, err := there.VerifyPeer(x.SVIDs[1].Certificates); err != nil {
		t.Error(err)
	}
	again, err := fetch(t, a.Address())
	if err != nil || !again.SVIDs[0].Certificates[0].Equal(x.SVIDs[0].Certificates[0]) {
		t.Errorf("each id has one svid on the host: %v", err)
	}
	var list ca.HostList
	if s.operator("GET", "/v1/hosts", nil, &list); len(list.Hosts) != 1 || list.Hosts[0].Name != "web-1" || len(list.Hosts[0].IDs) != 2 || len(list.Tokens) != 0 {
		t.Errorf("the operator is told %+v", list)
	}
	info, err := os.Stat(filepath.Join(s.dir, "web-1", "agent.state"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state has mode %v, %v", info.Mode(), err)
	}
	// Entries that change arrive at once, and what goes is served no longer.
	if err := s.ca.SetEntries([]ca.Entry{{ID: id("/here")}, {ID: id("/new"), Host: "web-1"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new entry", func() bool {
		x, err := fetch(t, a.Address())
		return err == nil && len(x.SVIDs) == 2 && x.SVIDs[0].ID == id("/new")
	})
}

// Everything rotates in seconds, under a follower.
func TestHostRenewsThroughRotationOfRoots(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for roots to be rotated")
	}
	t.Parallel()
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"})
	s.cfg.SVIDTTL, s.cfg.CATTL = 3*time.Second, 12*time.Second
	s.start()
	a, _ := s.join(s.config("web-1", s.token("web-1", time.Minute)))
	src, err := identity.New(identity.Options{WorkloadAPI: a.Address()})
	if err != nil {
		t.Fatal(err)
	}
	background(t, src.Run)
	ready(t, src)
	serials, roots, began := map[string]bool{}, 0, time.Now()
	eventually(t, "svids and roots are renewed", func() bool {
		serials[src.Serial()] = true
		for _, b := range src.Bundles() {
			roots = max(roots, b.Authorities)
		}
		return len(serials) >= 4 && roots >= 2
	})
	t.Logf("figure: %d svids, up to %d roots in %.1f s", len(serials), roots, time.Since(began).Seconds())
	// A machine that stands still for longer than an SVID lives has none for a moment.
	ready(t, src)
}

// The CA is gone: an agent that is started again serves the last good SVIDs, and
// goes on by itself when the CA is back.
func TestHostOutlivesTheCA(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"}).start()
	cfg := s.config("web-1", s.token("web-1", time.Minute))
	a, stop := s.join(cfg)
	x, err := fetch(t, a.Address())
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	if y, err := fetch(t, a.Address()); err != nil || !y.SVIDs[0].Certificates[0].Equal(x.SVIDs[0].Certificates[0]) {
		t.Fatalf("without the ca: %v", err)
	}
	stop()
	cfg.Token = "" // the token has done its work
	a, _ = s.join(cfg)
	if y, err := fetch(t, a.Address()); err != nil || !y.SVIDs[0].Certificates[0].Equal(x.SVIDs[0].Certificates[0]) {
		t.Fatalf("started again without the ca: %v", err)
	}
	s.cfg.Entries = append(s.cfg.Entries, ca.Entry{ID: id("/later"), Host: "web-1"})
	s.start()
	eventually(t, "the ca is asked again", func() bool {
		x, err := fetch(t, a.Address())
		return err == nil && len(x.SVIDs) == 2
	})
}

func TestExpiredSVIDsAreNotServed(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"})
	s.cfg.SVIDTTL, s.cfg.CATTL = 2*time.Second, time.Hour
	s.start()
	cfg := s.config("web-1", s.token("web-1", time.Minute))
	a, stop := s.join(cfg)
	if _, err := fetch(t, a.Address()); err != nil {
		t.Fatal(err)
	}
	s.stop()
	time.Sleep(3 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	cl, err := workloadapi.New(ctx, workloadapi.WithAddr(a.Address()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cl.Close() }()
	if x, err := cl.FetchX509SVIDs(ctx); err == nil {
		t.Errorf("served %v, valid until %s", x[0].ID, x[0].Certificates[0].NotAfter)
	}
	// The host's own has ended too: another token is needed, and works.
	stop()
	cfg.Token = ""
	s.fails(cfg, agent.ErrToken)
	s.start()
	cfg.Token = s.token("web-1", time.Minute)
	a, _ = s.join(cfg)
	if _, err := fetch(t, a.Address()); err != nil {
		t.Error(err)
	}
}

func TestTokensAreRefused(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"}).start()
	t.Run("used", func(t *testing.T) {
		token := s.token("web-1", time.Minute)
		_, stop := s.join(s.config("web-1", token))
		stop()
		cfg := s.config("web-1", token)
		cfg.Dir += "-thief"
		refusedWith(t, s.fails(cfg, agent.ErrToken), hostapi.CodeToken)
	})
	t.Run("expired", func(t *testing.T) {
		token := s.token("web-1", time.Second)
		time.Sleep(1100 * time.Millisecond)
		cfg := s.config("web-1", token)
		cfg.Dir += "-late"
		refusedWith(t, s.fails(cfg, agent.ErrToken), hostapi.CodeToken)
	})
	change := func(t *testing.T, f func(*hostapi.Token)) error {
		t.Helper()
		token, err := hostapi.ParseToken(s.token("web-1", time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		f(&token)
		text, err := token.Encode()
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.config("web-1", text)
		cfg.Dir = t.TempDir()
		return s.fails(cfg, agent.ErrToken)
	}
	t.Run("of another host", func(t *testing.T) {
		refusedWith(t, change(t, func(k *hostapi.Token) { k.Host = "web-2" }), hostapi.CodeToken)
	})
	t.Run("forged secret", func(t *testing.T) {
		refusedWith(t, change(t, func(k *hostapi.Token) { k.Secret[0] ^= 1 }), hostapi.CodeToken)
	})
	t.Run("of another ca", func(t *testing.T) {
		other := newSite(t).start()
		err := change(t, func(k *hostapi.Token) { k.Address = other.cfg.Hosts.Address })
		if peer, ok := errors.AsType[*identity.PeerError](err); !ok || peer.Reason != identity.ReasonUntrustedChain {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		token := s.token("web-1", time.Minute)
		cfg := s.config("web-1", token[:len(token)-9])
		cfg.Dir = t.TempDir()
		if err := s.fails(cfg, agent.ErrToken); !errors.Is(err, hostapi.ErrToken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		cfg := s.config("web-1", "")
		cfg.Dir = t.TempDir()
		s.fails(cfg, agent.ErrToken)
	})
}

func refusedWith(t *testing.T, err error, code hostapi.Code) {
	t.Helper()
	if refusal, ok := errors.AsType[*hostapi.Error](err); !ok || refusal.Code != code {
		t.Errorf("got %v, want a refusal with %s", err, code)
	}
}

// A revoked host ends, deletes what it had, and its old SVID opens nothing even
// after the name has joined again.
func TestRevokedHostEnds(t *testing.T) {
	s := newSite(t, ca.Entry{ID: id("/there"), Host: "web-1"}).start()
	cfg := s.config("web-1", s.token("web-1", time.Minute))
	a, err := agent.New(cfg, agent.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	ready(t, a)
	if _, err := fetch(t, a.Address()); err != nil {
		t.Fatal(err)
	}
	stolen, err := os.ReadFile(filepath.Join(cfg.Dir, "agent.state"))
	if err != nil {
		t.Fatal(err)
	}
	if code := s.operator("DELETE", "/v1/hosts/web-1", nil, nil); code != 200 {
		t.Fatalf("revoke: %d", code)
	}
	began := time.Now()
	select {
	case err := <-ended:
		if !errors.Is(err, agent.ErrRevoked) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the agent goes on")
	}
	t.Logf("figure: a revoked agent ended after %s", time.Since(began).Round(time.Millisecond))
	if _, err := os.Stat(filepath.Join(cfg.Dir, "agent.state")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its state is still there: %v", err)
	}
	cfg.Token = s.token("web-1", time.Minute)
	_, stop := s.join(cfg)
	defer stop()
	thief := s.config("web-1", "")
	thief.Dir, thief.Socket = filepath.Join(s.dir, "thief"), filepath.Join(s.dir, "thief.sock")
	if err := os.Mkdir(thief.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(thief.Dir, "agent.state"), stolen, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(thief, agent.ErrRevoked)
	if code := s.operator("DELETE", "/v1/hosts/nobody", nil, nil); code != 404 {
		t.Errorf("revoke of nobody: %d", code)
	}
}

// A host whose user has no entry, and a caller of another user, get nothing.
func TestUsersAreKeptApartOnEachHost(t *testing.T) {
	other := uint32(54321)
	s := newSite(t, ca.Entry{ID: id("/there"), UID: &other, Host: "web-1"}).start()
	a, _ := s.join(s.config("web-1", s.token("web-1", time.Minute)))
	eventually(t, "the ca's word", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cl, err := workloadapi.New(ctx, workloadapi.WithAddr(a.Address()))
		if err != nil {
			return false
		}
		defer func() { _ = cl.Close() }()
		_, err = cl.FetchX509SVIDs(ctx)
		return status.Code(err) == codes.PermissionDenied
	})
}

func TestConfigProblems(t *testing.T) {
	_, err := agent.New(agent.Config{Socket: "x", Address: "y", Token: "a", TokenFile: "b"}, agent.Options{})
	for _, field := range []string{"dir", "socket", "address", "token_file"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("no problem with %s in %v", field, err)
		}
	}
}
