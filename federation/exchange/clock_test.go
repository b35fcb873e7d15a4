package exchange_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/prometheus/client_golang/prometheus"
)

// wire is a network in memory, for the simulated clock: it can swallow
// everything (silent) or refuse connections (down).
type wire struct {
	accept chan net.Conn
	closed chan struct{}

	mu    sync.Mutex
	dials []time.Time
	down  bool
	conns []*wireConn
}

func newWire() *wire { return &wire{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.accept:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { close(w.closed); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, time.Now())
	down := w.down
	w.mu.Unlock()
	if down {
		return nil, errors.New("network is down")
	}
	near, far := net.Pipe()
	select {
	case w.accept <- far:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &wireConn{Conn: near, dead: make(chan struct{}), gone: make(chan struct{})}
	w.mu.Lock()
	w.conns = append(w.conns, c)
	w.mu.Unlock()
	return c, nil
}

// silence stops every connection without closing any, and refuses new ones.
func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, c := range w.conns {
		c.once.Do(func() { close(c.dead) })
	}
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

func (w *wire) dialed() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// wireConn gives nothing to its reader once it is dead.
type wireConn struct {
	net.Conn
	dead, gone chan struct{}
	once, end  sync.Once
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.dead:
		<-c.gone
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *wireConn) Close() error {
	c.end.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// simulate runs test on the simulated clock, with an exporter behind a wire.
func simulate(t *testing.T, test func(t *testing.T, w *wire, e *exchange.Exporter, client *http.Client), opts ...func(*exchange.ExporterOptions)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := newExporter(t, append(opts, func(o *exchange.ExporterOptions) {
			o.Peer = func(*http.Request) (catalog.ClusterName, error) { return "aws", nil }
		})...)
		server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(w)
		}()
		tr := &http.Transport{DialContext: w.dial}
		test(t, w, e, &http.Client{Transport: tr})
		tr.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
}

const farURL = "http://federation.gcp"

func TestHeartbeatsKeepTheLease(t *testing.T) {
	simulate(t, func(t *testing.T, w *wire, e *exchange.Exporter, client *http.Client) {
		changes := 0
		l := listen(t, newImporter(t, farURL, client, func(o *exchange.ImporterOptions) { o.Changed = func() { changes++ } }))
		set(t, e, state(summary("web.shop", 1)))
		time.Sleep(time.Hour)
		synctest.Wait()
		st := l.Status()
		if st.State != exchange.StateOK || st.ControlLost || time.Since(st.HeardAt) > exchange.HeartbeatEvery {
			t.Errorf("after an hour: %+v", st)
		}
		if n := len(w.dialed()); n > 2 || changes > 3 {
			t.Errorf("%d connections and %d changes in a quiet hour", n, changes)
		}
		l.close()
	})
}

func TestLeaseRunsOut(t *testing.T) {
	simulate(t, func(t *testing.T, w *wire, e *exchange.Exporter, client *http.Client) {
		var lost []time.Time
		var i *exchange.Importer
		i = newImporter(t, farURL, client, func(o *exchange.ImporterOptions) {
			o.Changed = func() {
				if i.Status().ControlLost {
					lost = append(lost, time.Now())
				}
			}
			o.Random = func() float64 { return 0.999 }
		})
		l := listen(t, i)
		set(t, e, state(summary("web.shop", 1)))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		before := show(l.Snapshot())

		w.silence()
		heard := l.Status().HeardAt
		time.Sleep(exchange.Silence + time.Second)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateConnecting || st.ControlLost {
			t.Errorf("after the silence: %+v", st)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateControlLost || !st.ControlLost || !st.HeardAt.Equal(heard) {
			t.Errorf("after an hour: %+v", st)
		}
		if len(lost) == 0 || lost[0].Sub(heard) < exchange.Lease || lost[0].Sub(heard) > exchange.Lease+time.Second {
			t.Errorf("control is lost at %v, the peer was heard at %v", lost, heard)
		}
		if got := show(l.Snapshot()); got != before {
			t.Errorf("the last good state became %s", got)
		}
		// Control is back within the back-off's maximum.
		w.heal()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateOK || st.ControlLost || st.Err != nil {
			t.Errorf("after the heal: %+v", st)
		}
		// And lost again, by the same rule.
		w.silence()
		time.Sleep(exchange.Lease + time.Second)
		synctest.Wait()
		if st := l.Status(); !st.ControlLost {
			t.Errorf("the second time: %+v", st)
		}
		l.close()
	})
}

func TestPeerThatWasNeverHeard(t *testing.T) {
	simulate(t, func(t *testing.T, w *wire, _ *exchange.Exporter, client *http.Client) {
		w.silence()
		l := listen(t, newImporter(t, farURL, client))
		time.Sleep(exchange.Lease - time.Second)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateConnecting || st.ControlLost || !st.HeardAt.IsZero() {
			t.Errorf("within the lease: %+v", st)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateControlLost || !st.ControlLost {
			t.Errorf("after it: %+v", st)
		}
		l.close()
	})
}

func TestBackOff(t *testing.T) {
	simulate(t, func(t *testing.T, w *wire, e *exchange.Exporter, client *http.Client) {
		w.silence()
		l := listen(t, newImporter(t, farURL, client, func(o *exchange.ImporterOptions) { o.Random = func() float64 { return 1 } }))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		dials := w.dialed()
		want := 200 * time.Millisecond
		for i := 1; i < len(dials); i++ {
			if got := dials[i].Sub(dials[i-1]); got != want {
				t.Errorf("attempt %d comes after %v, want %v", i, got, want)
			}
			want = min(2*want, 5*time.Second)
		}
		if len(dials) < 15 {
			t.Errorf("%d attempts in five minutes", len(dials))
		}
		// A nudge is an attempt at once.
		w.heal()
		set(t, e, state(summary("web.shop", 1)))
		l.Nudge()
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateOK {
			t.Errorf("after the nudge: %+v", st)
		}
		// A stream that was stable starts the back-off anew.
		time.Sleep(2 * time.Minute)
		n := len(w.dialed())
		w.silence()
		time.Sleep(exchange.Silence + time.Second)
		synctest.Wait()
		if got := len(w.dialed()) - n; got < 2 {
			t.Errorf("%d attempts within a second", got)
		}
		l.close()
	})
	for _, attempt := range []int{0, 1, 7, 8, 1000} {
		if low, high := exchange.Backoff(attempt, 0), exchange.Backoff(attempt, 1); low > high || low < 10*time.Millisecond || high > 5*time.Second {
			t.Errorf("attempt %d waits %v to %v", attempt, low, high)
		}
	}
}

// Changes that come faster than listeners take updates travel together, and all
// of them arrive.
func TestFastChangesTravelTogether(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	simulate(t, func(t *testing.T, _ *wire, e *exchange.Exporter, client *http.Client) {
		set(t, e, state(summary("web.shop", 0)))
		l := listen(t, newImporter(t, farURL, client))
		for i := range 3000 {
			time.Sleep(10 * time.Millisecond)
			set(t, e, state(summary("web.shop", i%9)))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if st := l.Status(); st.State != exchange.StateOK || st.Position != e.Position("aws") || st.Attempt != 0 {
			t.Errorf("%+v, the exporter is at %v", st, e.Position("aws"))
		}
		if n := counted(t, reg, "isthmus_exchange_served_batches_total"); n < 100 || n > 300 {
			t.Errorf("3000 changes in 30 s take %v batches", n)
		}
		l.close()
	}, func(o *exchange.ExporterOptions) { o.Registerer = reg })
}

func counted(t testing.TB, reg prometheus.Gatherer, metric string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == metric {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A listener that opens a stream and never reads is let go.
func TestReaderThatNeverReads(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	simulate(t, func(t *testing.T, w *wire, e *exchange.Exporter, _ *http.Client) {
		set(t, e, state(summary("web.shop", 1)))
		c, err := w.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET " + exchange.CatalogPath + "?watch=true HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		const open = "isthmus_exchange_served_streams"
		if n := counted(t, reg, open); n != 1 {
			t.Fatalf("%v streams", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := counted(t, reg, open); n != 0 {
			t.Errorf("%v streams after a minute", n)
		}
		_ = c.Close()
	}, func(o *exchange.ExporterOptions) { o.Registerer = reg })
}

// disk is a Store that can be full.
type disk struct {
	mu    sync.Mutex
	full  bool
	saves []time.Time
	state []byte
}

func (d *disk) Save(state []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saves = append(d.saves, time.Now())
	if d.full {
		return errors.New("no space left on device")
	}
	d.state = state
	return nil
}

func (d *disk) Load(accept func([]byte) error) (skipped, err error) {
	if d.state == nil {
		return nil, nil
	}
	return nil, accept(d.state)
}

func (d *disk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

func TestChangesAreKeptButNotEachOfThem(t *testing.T) {
	simulate(t, func(t *testing.T, _ *wire, e *exchange.Exporter, client *http.Client) {
		d := &disk{full: true}
		set(t, e, state(summary("web.shop", 0)))
		l := listen(t, newImporter(t, farURL, client, func(o *exchange.ImporterOptions) { o.Store = d }))
		for i := range 60 {
			time.Sleep(time.Second)
			set(t, e, state(summary("web.shop", i%9)))
			if i == 30 {
				d.setFull(false)
			}
		}
		synctest.Wait()
		if n := len(d.saves); n < 20 || n > 32 {
			t.Errorf("%d writes in a minute with a change every second", n)
		}
		if st := l.Status(); st.State != exchange.StateOK {
			t.Errorf("%+v", st)
		}
		set(t, e, state(summary("web.shop", 7)))
		time.Sleep(200 * time.Millisecond)
		l.close() // what is not kept yet is kept now
		again := newImporter(t, farURL, client, func(o *exchange.ImporterOptions) { o.Store = d })
		if err := again.Load(); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := cutPosition(show(again.Snapshot())); got != "web.shop=7 "+roster {
			t.Errorf("kept: %s", got)
		}
	})
}
