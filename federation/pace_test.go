package federation

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestPauseFollowsTheWork(t *testing.T) {
	for _, c := range []struct{ took, want time.Duration }{
		{0, pauseAtLeast},
		{time.Millisecond, pauseAtLeast},
		{2 * time.Millisecond, 200 * time.Millisecond},
		{3 * time.Millisecond, pauseAtMost},
		{time.Minute, pauseAtMost},
	} {
		if got := pause(c.took); got != c.want {
			t.Errorf("after %v of work a pause of %v, want %v", c.took, got, c.want)
		}
	}
	for _, c := range []struct{ pause, since, want time.Duration }{
		{pauseAtMost, time.Hour, settle},
		{pauseAtMost, 0, pauseAtMost},
		{pauseAtMost, 100 * time.Millisecond, 150 * time.Millisecond},
		{pauseAtMost, pauseAtMost - time.Millisecond, settle},
	} {
		if got := wait(c.pause, c.since); got != c.want {
			t.Errorf("%v into a pause of %v: waits %v, want %v", c.since, c.pause, got, c.want)
		}
	}
}

func TestTellingsFollowTheListeners(t *testing.T) {
	for _, c := range []struct {
		listeners    int
		since, pause time.Duration
		want         bool
	}{
		{0, 0, pauseAtLeast, true},
		{20, pauseAtLeast, pauseAtLeast, true}, // every round
		{200, 0, pauseAtMost, false},
		{200, pauseAtMost + 20*time.Millisecond, pauseAtMost, false},
		{200, 2 * pauseAtMost, pauseAtMost, true}, // every other
		{5000, 2 * pauseAtMost, pauseAtMost, true},
		{200, 2 * pauseAtLeast, pauseAtLeast, false},
		{200, time.Hour, pauseAtLeast, true},
	} {
		if got := tells(c.listeners, c.since, c.pause); got != c.want {
			t.Errorf("%d listeners, told %v ago, rounds every %v: %v", c.listeners, c.since, c.pause, got)
		}
	}
}

// chain is a change's way from one federation to its own gateways, and over the
// exchange to a peer's federation and that one's gateways, on a simulated clock:
// the pace and the exchange are real, and rounds take the time that they are given.
type chain struct {
	mu        sync.Mutex
	made      []time.Time // when each change was
	near, far []time.Duration
	rounds    int
	tellings  int
}

const chainListeners = 200

// run makes changes for some time; every is between two, work what a round takes.
// A busy peer has as many changes of its own.
func (c *chain) run(t *testing.T, total, every, work time.Duration, busy bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	exporter, err := exchange.NewExporter(exchange.ExporterOptions{
		Cluster: "here", Peer: func(*http.Request) (catalog.ClusterName, error) { return "there", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	pipes := pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: exporter, ReadHeaderTimeout: time.Minute}
	wg.Go(func() { _ = server.Serve(pipes) })
	defer server.Close()
	defer exporter.Close()
	tell := func(n uint64) {
		s := &catalog.Summary{
			Service: catalog.MustServiceName("web.shop"), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}},
			Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: 1, Capacity: n + 1}},
		}
		if err := exporter.Set("there", exchange.State{Services: []*catalog.Summary{s}}); err != nil {
			t.Error(err)
		}
	}
	tell(0)

	// The far end: what the importer brings is taken in by a round of its own.
	wake, woken := make(chan struct{}, 1), make(chan struct{}, 1)
	importer, err := exchange.NewImporter(exchange.ImporterOptions{
		Cluster: "here", ID: spiffeid.RequireFromString("spiffe://test/isthmus/cluster/here"), URL: "http://here",
		Client:  &http.Client{Transport: &http.Transport{DialContext: pipes.dial}},
		Changed: func() { touchChan(woken) },
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = importer.Run(ctx) })
	wg.Go(func() {
		taken := 0
		rounds{wake: woken, look: func() {}, work: func(time.Duration) bool {
			n := 0
			if list := importer.Snapshot().Services(); len(list) > 0 {
				n = int(list[0].Rows[0].Capacity) - 1
			}
			time.Sleep(work)
			c.mu.Lock()
			defer c.mu.Unlock()
			for ; taken < n; taken++ {
				c.far = append(c.far, time.Since(c.made[taken]))
			}
			return false
		}}.run(ctx)
	})

	// The near end, as plane.work and plane.tell.
	wg.Go(func() {
		taken, told, last := 0, 0, time.Time{}
		rounds{wake: wake, look: func() {}, work: func(pause time.Duration) bool {
			c.mu.Lock()
			n := len(c.made)
			c.rounds++
			c.mu.Unlock()
			time.Sleep(work)
			c.mu.Lock()
			for ; taken < n; taken++ {
				c.near = append(c.near, time.Since(c.made[taken]))
			}
			c.mu.Unlock()
			if now := time.Now(); n > told && tells(chainListeners, now.Sub(last), pause) {
				tell(uint64(n))
				told, last = n, now
				c.tellings++
			}
			return n > told
		}}.run(ctx)
	})
	time.Sleep(time.Minute) // a quiet time
	for began := time.Now(); time.Since(began) < total; time.Sleep(every) {
		c.mu.Lock()
		c.made = append(c.made, time.Now())
		c.mu.Unlock()
		touchChan(wake)
		if busy {
			touchChan(woken)
		}
	}
	time.Sleep(10 * time.Second)
}

func touchChan(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pipeListener is a network in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func share(list []time.Duration, q float64) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(q*float64(len(list))))]
}

// Under a hundred changes a second, with the rounds and the listeners of the
// largest catalog, every change is at every gateway within the design's second,
// and the number of rounds and of tellings does not depend on that of changes.
func TestAChangeIsEverywhereWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total, work = 30 * time.Second, 20 * time.Millisecond
		var c chain
		c.run(t, total, 10*time.Millisecond, work, true)
		if len(c.near) != len(c.made) || len(c.far) != len(c.made) || len(c.made) < 2900 {
			t.Fatalf("of %d changes %d are at the own gateways, %d at the peer's", len(c.made), len(c.near), len(c.far))
		}
		t.Logf("figure: own gateways: median %v, 99 %% %v, worst %v; peer's: median %v, 99 %% %v, worst %v; %d rounds, %d tellings in %v",
			share(c.near, .5), share(c.near, .99), share(c.near, 1), share(c.far, .5), share(c.far, .99), share(c.far, 1), c.rounds, c.tellings, total)
		if worst := share(c.near, 1); worst > pauseAtMost+2*work {
			t.Errorf("own gateways: worst %v, want %v", worst, pauseAtMost+2*work)
		}
		if worst := share(c.far, 1); worst > 900*time.Millisecond {
			t.Errorf("the peer's gateways: worst %v, want 0.9 s", worst)
		}
		if most := int(total/pauseAtMost) + 5; c.rounds > most || c.tellings > most/2+2 {
			t.Errorf("%d rounds and %d tellings, want at most %d and %d", c.rounds, c.tellings, most, most/2+2)
		}
	})
}

// After a quiet time a change waits for nobody.
func TestASingleChangeIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work = 20 * time.Millisecond
		var c chain
		c.run(t, time.Minute, 3*time.Second, work, false)
		if len(c.far) != len(c.made) || len(c.made) != 20 {
			t.Fatalf("%d changes, %d at the peer's gateways", len(c.made), len(c.far))
		}
		if worst := share(c.near, 1); worst > settle+work {
			t.Errorf("own gateways: worst %v, want %v", worst, settle+work)
		}
		if worst := share(c.far, 1); worst > 2*(settle+work) {
			t.Errorf("the peer's gateways: worst %v, want %v", worst, 2*(settle+work))
		}
	})
}
