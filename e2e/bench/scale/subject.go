package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// result is what one size costs.
type result struct {
	Size size
	// FirstSync is from the service's start, with nothing on disk and every peer
	// ready to answer, until every gateway has everything; SyncCPU is what it took.
	FirstSync, SyncCPU time.Duration
	// Heap is the service's at rest; Base that of a process without a catalog.
	Base, Heap uint64
	// Idle and Busy are shares of one core: at rest, and under changes.
	Idle, Busy float64
	// BusyCPU is the processor time of Busy, Source the part of it in which this
	// program's source made its changes; Collections are those of garbage.
	BusyCPU, Source time.Duration
	Collections     uint32
	// Kernel is the kernel's part of Busy; Sleeps are how often a thread slept in that
	// time, and Rested in that of Idle, each a second.
	Kernel, Sleeps, Rested        float64
	Changes                       int
	BusyFor                       time.Duration
	Local50, Local99, LocalMax    time.Duration
	Remote50, Remote99, RemoteMax time.Duration
	Missing                       int
	// Sent are the bytes of tables and deltas for each change and gateway.
	Sent   float64
	Tables int
	Told   int
}

// subject runs the service of one size against a world at the other end of the
// talk.
type subject struct {
	plan   plan
	size   size
	talk   *talk
	dir    string
	source *source
	reg    *prometheus.Registry
	weight uint32
}

func newSubject(p plan, s size, r io.Reader, w io.Writer, dir string) *subject {
	return &subject{plan: p, size: s, talk: newTalk(r, w), dir: dir, source: &source{size: s, changes: make(chan uint32, 1024)}, reg: prometheus.NewRegistry(), weight: firstMark}
}

// run measures.
func (u *subject) run(ctx context.Context) (res result, err error) {
	res.Size = u.size
	hi, err := u.talk.hear("the world", func(w word) bool { return w.Hello != nil })
	if err != nil {
		return res, err
	}
	fed, err := u.federation(hi.Hello)
	if err != nil {
		return res, err
	}
	res.Base = heap()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	began, cpu := time.Now(), cpuTime()
	go func() { ended <- fed.Run(ctx) }()
	defer func() {
		cancel()
		if e := <-ended; err == nil {
			err = e
		}
	}()
	select {
	case <-fed.Ready():
	case e := <-ended:
		ended <- nil
		return res, fmt.Errorf("federation: %w", e)
	}
	stopProfile, err := u.profile("sync")
	if err != nil {
		return res, err
	}
	if err := u.talk.say(order{Mesh: fed.Addrs().Mesh.String()}); err != nil {
		return res, err
	}
	if _, err := u.talk.hear("first sync", func(w word) bool { return w.Synced }); err != nil {
		return res, err
	}
	res.FirstSync, res.SyncCPU = time.Since(began), cpuTime()-cpu
	stopProfile()
	if err := u.settle(ctx); err != nil {
		return res, err
	}
	res.Heap = heap()
	if err := u.heapProfile("rest"); err != nil {
		return res, err
	}
	if u.plan.Steady == 0 {
		return res, nil
	}
	if stopProfile, err = u.profile("rest"); err != nil {
		return res, err
	}
	rest := u.plan.Steady / 2
	began = time.Now()
	cpu, _, slept := usage()
	if err := pause(ctx, rest); err != nil {
		return res, err
	}
	used, _, sleeps := usage()
	res.Idle, res.Rested = share(used-cpu, time.Since(began)), float64(sleeps-slept)/time.Since(began).Seconds()
	stopProfile()
	return res, u.steady(ctx, &res)
}

// settle waits until the work of the first sync (saves, lists) has ebbed.
func (u *subject) settle(ctx context.Context) error {
	for range 60 {
		cpu := cpuTime()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if share(cpuTime()-cpu, time.Second) < 0.15 {
			break
		}
	}
	return nil
}

// steady makes changes at the plan's rate, then asks the world what came of them.
func (u *subject) steady(ctx context.Context, res *result) error {
	if err := u.talk.say(order{Tally: true}); err != nil {
		return err
	}
	if _, err := u.talk.hear("tally", func(w word) bool { return w.Tally != nil }); err != nil {
		return err
	}
	stopProfile, err := u.profile("steady")
	if err != nil {
		return err
	}
	sent := u.counter("isthmus_federation_table_sent_bytes_total")
	// The world makes its half of the changes by itself, and hears of the other half
	// afterwards: of what this process uses nothing but the source is this program's.
	if err := u.talk.say(order{Remote: u.plan.Rate / 2}); err != nil {
		return err
	}
	began, own, cycles := time.Now(), u.source.own.total(), collections()
	cpu, kernel, slept := usage()
	var local []mark
	for due := began; time.Since(began) < u.plan.Steady; {
		m, err := u.change()
		if err != nil {
			return err
		}
		local = append(local, m)
		due = due.Add(around(2 * time.Second / time.Duration(u.plan.Rate)))
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
	}
	res.BusyFor = time.Since(began)
	used, ofKernel, sleeps := usage()
	res.BusyCPU, res.Source, res.Collections = used-cpu, u.source.own.total()-own, collections()-cycles
	res.Busy, res.Kernel = share(used-cpu, res.BusyFor), share(ofKernel-kernel, res.BusyFor)
	res.Sleeps = float64(sleeps-slept) / res.BusyFor.Seconds()
	stopProfile()
	if err := u.talk.say(order{Remote: -1}); err != nil {
		return err
	}
	// Beside that of rest it tells what the changes have allocated.
	if err := u.heapProfile("steady"); err != nil {
		return err
	}
	const last = 2 * time.Second // for the last changes to arrive
	if err := pause(ctx, last); err != nil {
		return err
	}
	bytes := u.counter("isthmus_federation_table_sent_bytes_total") - sent
	if err := u.talk.say(order{Tally: true, Local: local}); err != nil {
		return err
	}
	w, err := u.talk.hear("tally", func(w word) bool { return w.Tally != nil })
	if err != nil {
		return err
	}
	t := w.Tally
	res.Changes = t.Sent
	res.Sent = bytes / float64(max(1, res.Changes*u.size.Gateways))
	res.Local50, res.Local99, res.LocalMax = quantile(t.Local, 0.5), quantile(t.Local, 0.99), quantile(t.Local, 1)
	res.Remote50, res.Remote99, res.RemoteMax = quantile(t.Remote, 0.5), quantile(t.Remote, 0.99), quantile(t.Remote, 1)
	res.Missing, res.Tables, res.Told = t.Missing, t.Tables, t.Told
	return nil
}

// change makes one change of an endpoint.
func (u *subject) change() (mark, error) {
	if u.weight++; u.weight > catalog.MaxWeight {
		return mark{}, fmt.Errorf("more than %d changes: no mark is left", catalog.MaxWeight-firstMark)
	}
	m := mark{Weight: u.weight, At: time.Now().UnixNano()}
	u.source.changes <- u.weight
	return m, nil
}

func (u *subject) federation(h *hello) (*federation.Federation, error) {
	svid, err := x509svid.Parse(h.Certificate, h.Key)
	if err != nil {
		return nil, err
	}
	bundle, err := x509bundle.Parse(spiffeid.RequireTrustDomainFromString(trustDomain), h.Bundle)
	if err != nil {
		return nil, err
	}
	c := federation.Config{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(u.dir, "data"), API: federation.API{Socket: filepath.Join(u.dir, "api.sock")},
		Exports: []policy.Export{{Name: "all", Services: []policy.ServicePattern{"*"}, To: []string{"*"}}},
	}
	for n := range u.size.Peers {
		name := peerName(n)
		c.Peers = append(c.Peers, federation.Peer{
			Name: catalog.ClusterName(name), ID: "spiffe://" + trustDomain + "/isthmus/cluster/" + name,
			Gateways: []string{fmt.Sprintf("10.200.%d.%d:7443", n>>8, n&255)}, Cloud: "aws", Region: "us-east-1",
			Asserts: []policy.IDPattern{policy.IDPattern("spiffe://" + trustDomain + "/" + name + "/*")},
		})
		c.Imports = append(c.Imports, policy.Import{Name: "from-" + name, From: catalog.ClusterName(name), Services: []policy.ServicePattern{"*"}})
	}
	return federation.New(federation.Options{
		Config: c, Cluster: ownCluster, Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"},
		Identity: identity.NewStatic(svid, bundle), Registry: u.reg, Build: "scale",
		Sources: []federation.NamedSource{{Name: sourceName, Kind: "scale", Source: u.source, Ranges: discovery.NewRanges()}},
	})
}

// counter sums a metric's series.
func (u *subject) counter(name string) (sum float64) {
	families, err := u.reg.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// profile begins a CPU profile; the function that it returns ends it.
func (u *subject) profile(name string) (stop func(), err error) {
	if u.plan.Profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(u.plan.Profile, fmt.Sprintf("%s-%d.cpu", name, u.size.Services)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

func (u *subject) heapProfile(name string) error {
	if u.plan.Profile == "" {
		return nil
	}
	f, err := os.Create(filepath.Join(u.plan.Profile, fmt.Sprintf("%s-%d.heap", name, u.size.Services)))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	runtime.GC() // the profile is as of the last one but one
	runtime.GC()
	return pprof.WriteHeapProfile(f)
}

func share(used, of time.Duration) float64 { return used.Seconds() / of.Seconds() }

// around is a random time of the given mean. Changes that came by a beat would be in
// step with the clock that samples profiles. Each change is due so long after the
// one before was, so that a machine under load makes as many of them as a quiet one.
func around(mean time.Duration) time.Duration { return rand.N(2 * mean) }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
