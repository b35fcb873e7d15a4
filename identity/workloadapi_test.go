package identity_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
)

// patience bounds how long a test waits for what must come; it is no measure.
const patience = 20 * time.Second

// run starts a source and stops it with the test.
func run(t *testing.T, opts identity.Options) *identity.Source {
	t.Helper()
	src, err := identity.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
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

func waitReady(t *testing.T, src *identity.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := src.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until the condition holds, looking again after each update.
func eventually(t *testing.T, src *identity.Source, what string, condition func() bool) {
	t.Helper()
	updates, cancel := src.Updates()
	defer cancel()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-updates:
		case <-time.After(20 * time.Millisecond): // metrics change without an update
		case <-deadline:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// logBuffer collects a log for the failing test and for assertions on it.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

func bundles(b ...*x509bundle.Bundle) []*x509bundle.Bundle { return b }

func empty(td spiffeid.TrustDomain) *x509bundle.Bundle { return x509bundle.New(td) }

func counter(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for i := 0; i+1 < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue metrics
				}
			}
			if m.GetCounter() != nil {
				return m.GetCounter().GetValue()
			}
			return m.GetGauge().GetValue()
		}
	}
	return -1
}

func TestSourceFollowsTheWorkloadAPI(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.ID("/gw")
	first := a.SVID(gw)
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{
		SVIDs: []*x509svid.SVID{a.SVID(a.ID("/other")), first}, Bundles: bundles(a.Bundle(), b.Bundle()),
	})
	reg := prometheus.NewRegistry()
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw, Registerer: reg})
	waitReady(t, src)
	if src.ID() != gw || src.TrustDomain() != a.TrustDomain() || !src.NotAfter().Equal(identitytest.NotAfter) {
		t.Fatalf("got %s, %s, %s", src.ID(), src.TrustDomain(), src.NotAfter())
	}
	if err := src.Ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := src.VerifyPeer(b.SVID(b.ID("/gw")).Certificates); err != nil {
		t.Fatalf("federated bundle is not in force: %v", err)
	}
	if got := counter(t, reg, "isthmus_identity_svid_not_after_seconds"); got != float64(identitytest.NotAfter.Unix()) {
		t.Fatalf("not_after metric is %v", got)
	}

	serial := src.Serial()
	second := a.SVID(gw)
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{second}, Bundles: bundles(a.Bundle(), b.Bundle())})
	eventually(t, src, "rotation", func() bool { return src.Serial() != serial })
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{second}, Bundles: bundles(a.Bundle())})
	eventually(t, src, "removal of a domain that is no longer named, and of nothing else", func() bool {
		_, err := src.VerifyPeer(b.SVID(b.ID("/gw")).Certificates)
		return reason(err) == identity.ReasonUnknownTrustDomain
	})
	if got := counter(t, reg, "isthmus_identity_bundle_sequence", "trust_domain", "b.test"); got != -1 {
		t.Fatal("series of a domain that is gone is still there")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatalf("metrics: %v %v", problems, err)
	}
}

func TestSourceTakesTheDefaultSVIDWhenNoneIsNamed(t *testing.T) {
	a := identitytest.NewCA("a.test")
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{
		SVIDs: []*x509svid.SVID{a.SVID(a.ID("/default")), a.SVID(a.ID("/other"))}, Bundles: bundles(a.Bundle()),
	})
	src := run(t, identity.Options{WorkloadAPI: w.Address()})
	waitReady(t, src)
	if src.ID() != a.ID("/default") {
		t.Fatalf("got %s", src.ID())
	}
}

func TestRefusedUpdatesKeepTheLastGood(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	gw := a.ID("/gw")
	recent := a.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotBefore: time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC)})
	older := a.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)})
	good := identitytest.Answer{SVIDs: []*x509svid.SVID{recent}, Bundles: bundles(a.Bundle(), b.Bundle())}
	tests := []struct {
		name   string
		answer identitytest.Answer
		want   error
	}{
		{"without the wanted id", identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(a.ID("/other"))}, Bundles: good.Bundles}, identity.ErrIDNotOffered},
		{"own bundle empty", identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(empty(a.TrustDomain()), b.Bundle())}, identity.ErrEmptyBundle},
		{"federated bundle empty", identitytest.Answer{SVIDs: good.SVIDs, Bundles: bundles(a.Bundle(), empty(b.TrustDomain()))}, identity.ErrEmptyBundle},
		{"federated bundle of leaves", identitytest.Answer{SVIDs: good.SVIDs, Bundles: bundles(a.Bundle(), x509bundle.FromX509Authorities(b.TrustDomain(), b.SVID(b.ID("/x")).Certificates))}, identity.ErrMalformedBundle},
		{"expired", identitytest.Answer{SVIDs: []*x509svid.SVID{a.Expired(gw)}, Bundles: good.Bundles}, identity.ErrUnusableSVID},
		{"not yet valid", identitytest.Answer{SVIDs: []*x509svid.SVID{a.NotYetValid(gw)}, Bundles: good.Bundles}, identity.ErrUnusableSVID},
		{"of another ca than the bundle", identitytest.Answer{SVIDs: []*x509svid.SVID{identitytest.NewCA("a.test").SVID(gw)}, Bundles: good.Bundles}, identity.ErrUnusableSVID},
		{"older than the one held", identitytest.Answer{SVIDs: []*x509svid.SVID{older}, Bundles: good.Bundles}, identity.ErrOlderSVID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := identitytest.NewWorkloadAPI(t, good)
			reg, log := prometheus.NewRegistry(), &logBuffer{}
			src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw, Registerer: reg, Log: log.logger()})
			waitReady(t, src)
			serial := src.Serial()
			w.Set(tt.answer)
			eventually(t, src, "refusal", func() bool {
				return counter(t, reg, "isthmus_identity_updates_total", "origin", "workload_api", "outcome", "refused") == 1
			})
			if !strings.Contains(log.String(), tt.want.Error()) {
				t.Errorf("log does not say %q: %s", tt.want, log)
			}
			if src.Serial() != serial {
				t.Error("svid was replaced")
			}
			if _, err := src.VerifyPeer(b.SVID(b.ID("/gw")).Certificates); err != nil {
				t.Errorf("federated bundle was lost: %v", err)
			}
			if _, err := src.VerifyPeer(a.SVID(a.ID("/peer")).Certificates); err != nil {
				t.Errorf("own bundle was lost: %v", err)
			}
		})
	}
}

func TestAnOlderSVIDOfARebuiltCAIsTaken(t *testing.T) {
	gw := spiffeid.RequireFromString("spiffe://a.test/gw")
	before, rebuilt := identitytest.NewCA("a.test"), identitytest.NewCA("a.test")
	recent := before.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotBefore: time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC)})
	older := rebuilt.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)})
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{recent}, Bundles: bundles(before.Bundle())})
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw})
	waitReady(t, src)
	serial := src.NotAfter()
	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{older}, Bundles: bundles(rebuilt.Bundle())})
	eventually(t, src, "the only svid that the new bundle vouches for", func() bool { return !src.NotAfter().Equal(serial) })
}

func TestSourceSurvivesTheWorkloadAPI(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	answer := func() identitytest.Answer {
		return identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(gw)}, Bundles: bundles(a.Bundle())}
	}
	w := identitytest.NewWorkloadAPI(t, answer())
	reg := prometheus.NewRegistry()
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw, Registerer: reg})
	waitReady(t, src)

	disturb := map[string]func(){
		"killed and restored": func() { w.Kill(); w.Set(answer()); w.Start() },
		// go-spiffe's watch ends for good on these two; ours must not.
		"canceled":         func() { w.Set(identitytest.Answer{Code: codes.Canceled}) },
		"invalid argument": func() { w.Set(identitytest.Answer{Code: codes.InvalidArgument}) },
		"denied":           func() { w.Set(identitytest.Answer{Code: codes.PermissionDenied}) },
	}
	for name, do := range disturb {
		serial := src.Serial()
		failures := counter(t, reg, "isthmus_identity_workload_api_errors_total")
		do()
		eventually(t, src, name+": failure seen", func() bool {
			return counter(t, reg, "isthmus_identity_workload_api_errors_total") > failures
		})
		if err := src.Ready(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.Set(answer())
		eventually(t, src, name+": fresh svid after it", func() bool { return src.Serial() != serial })
	}
}

func TestWaitReadySaysWhatIsMissing(t *testing.T) {
	a := identitytest.NewCA("a.test")
	t.Run("other ids offered", func(t *testing.T) {
		w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{a.SVID(a.ID("/one")), a.SVID(a.ID("/two"))}, Bundles: bundles(a.Bundle())})
		reg := prometheus.NewRegistry()
		src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: a.ID("/gw"), Registerer: reg})
		eventually(t, src, "refusal", func() bool {
			return counter(t, reg, "isthmus_identity_updates_total", "origin", "workload_api", "outcome", "refused") > 0
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := src.WaitReady(ctx)
		missing, ok := errors.AsType[*identity.NotReadyError](err)
		if !ok || missing.Want != a.ID("/gw") || len(missing.Offered) != 2 || missing.WorkloadAPI != w.Address() {
			t.Fatalf("got %v", err)
		}
		for _, want := range []error{identity.ErrNotReady, identity.ErrIDNotOffered, context.Canceled} {
			if !errors.Is(err, want) {
				t.Errorf("%v does not hold %v", err, want)
			}
		}
		if _, err := src.TrustBundle(); !errors.Is(err, identity.ErrNotReady) {
			t.Errorf("bundle: %v", err)
		}
		c, s := tcpPair(t)
		_, serr := handshake(t, a.Source(a.ID("/c")).ClientTLS([]string{alpn}, identity.AuthorizeAny()),
			src.ServerTLS([]string{alpn}, identity.AuthorizeAny()), c, s)
		if reason(serr) != identity.ReasonOwnSVIDMissing {
			t.Errorf("handshake without an svid: %v", serr)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		reg := prometheus.NewRegistry()
		src := run(t, identity.Options{WorkloadAPI: "unix://" + filepath.Join(t.TempDir(), "none.sock"), Registerer: reg})
		eventually(t, src, "failed watch", func() bool {
			return counter(t, reg, "isthmus_identity_workload_api_errors_total") > 0
		})
		if err := src.Ready(); !errors.Is(err, identity.ErrNotReady) || !strings.Contains(err.Error(), "none.sock") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestOverdueRenewalIsReportedAndTheWatchBegunAnew(t *testing.T) {
	a := identitytest.NewCA("a.test")
	gw := a.ID("/gw")
	short := func(life time.Duration) *x509svid.SVID {
		return a.Mint(identitytest.Leaf{URIs: []string{gw.String()}, NotAfter: time.Now().Add(life)})
	}
	w := identitytest.NewWorkloadAPI(t, identitytest.Answer{SVIDs: []*x509svid.SVID{short(3 * time.Second)}, Bundles: bundles(a.Bundle())})
	reg, log := prometheus.NewRegistry(), &logBuffer{}
	src := run(t, identity.Options{WorkloadAPI: w.Address(), ID: gw, Registerer: reg, Log: log.logger()})
	waitReady(t, src)
	w.Set(identitytest.Answer{Silent: true}) // the agent hangs: its stream stays open
	eventually(t, src, "alarm", func() bool { return counter(t, reg, "isthmus_identity_svid_renewal_overdue") == 1 })
	eventually(t, src, "a fresh stream", func() bool { return w.Streams() > 1 })
	eventually(t, src, "expiry", func() bool {
		return reason(src.Ready()) == identity.ReasonOwnSVIDExpired && strings.Contains(log.String(), "svid expired")
	})

	peer := a.Source(a.ID("/peer"))
	c, s := tcpPair(t)
	_, serr := handshake(t, peer.ClientTLS([]string{alpn}, identity.AuthorizeAny()), src.ServerTLS([]string{alpn}, identity.AuthorizeAny()), c, s)
	if reason(serr) != identity.ReasonOwnSVIDExpired {
		t.Errorf("expired svid served: %v", serr)
	}
	c, s = tcpPair(t)
	cerr, _ := handshake(t, src.ClientTLS([]string{alpn}, identity.AuthorizeAny()), peer.ServerTLS([]string{alpn}, identity.AuthorizeAny()), c, s)
	if reason(cerr) != identity.ReasonOwnSVIDExpired {
		t.Errorf("expired svid presented: %v", cerr)
	}

	w.Set(identitytest.Answer{SVIDs: []*x509svid.SVID{short(time.Hour)}, Bundles: bundles(a.Bundle())})
	eventually(t, src, "recovery", func() bool {
		return src.Ready() == nil && counter(t, reg, "isthmus_identity_svid_renewal_overdue") == 0
	})
	for _, line := range []string{"svid renewal overdue", "svid renewal caught up"} {
		eventually(t, src, line, func() bool { return strings.Contains(log.String(), line) })
	}
}

func TestUpdatesCoalescePerSubscriber(t *testing.T) {
	a, b := identitytest.NewCA("a.test"), identitytest.NewCA("b.test")
	src := a.Source(a.ID("/gw"))
	one, cancelOne := src.Updates()
	two, cancelTwo := src.Updates()
	defer cancelTwo()
	for seq := range uint64(3) {
		if err := src.SetPeerBundle(b.TrustDomain(), b.BundleJSON(seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, ch := range []<-chan struct{}{one, two} {
		<-ch
		select {
		case <-ch:
			t.Fatal("notifications do not coalesce")
		default:
		}
	}
	cancelOne()
	cancelOne()
	src.RemovePeerBundle(b.TrustDomain())
	<-two
	select {
	case <-one:
		t.Fatal("notified after cancel")
	default:
	}
}

func TestOptionsReportEveryProblem(t *testing.T) {
	_, err := identity.New(identity.Options{WorkloadAPI: "http://x", ID: spiffeid.RequireFromString("spiffe://a.test")})
	if err == nil || !strings.Contains(err.Error(), "workload_api") || !strings.Contains(err.Error(), "must have a path") {
		t.Fatalf("got %v", err)
	}
	reg := prometheus.NewRegistry()
	opts := identity.Options{WorkloadAPI: "unix:///x", Registerer: reg}
	if _, err := identity.New(opts); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.New(opts); err == nil {
		t.Fatal("the same metrics were registered twice")
	}
}
