package survive

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// serve gives a cluster the two services: web answers requests, line lines, both
// with the cluster's name. handler replaces web's answer.
func (s *site) serve(handler http.HandlerFunc) {
	w := s.world
	if handler == nil {
		handler = func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, string(s.name)) }
	}
	s.web, _ = w.tcp.Listen("tcp", "")
	server := &http.Server{Handler: handler} //nolint:gosec // nobody slow calls
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(s.web) })
	s.line, _ = w.tcp.Listen("tcp", "")
	wg.Go(func() {
		for {
			c, err := s.line.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					if _, err := r.ReadString('\n'); err != nil {
						return
					}
					if _, err := io.WriteString(c, string(s.name)+"\n"); err != nil {
						return
					}
				}
			})
		}
	})
	w.cleanup = append(w.cleanup, func() {
		_ = server.Close()
		_ = s.line.Close()
		wg.Wait()
	})
}

// call is one request or connection of a caller in near.
type call struct {
	tcp        bool
	begin, end time.Time
	by         catalog.ClusterName // who answered; "" for nobody
	err        error
	begun      bool // the answer had begun when it broke: nobody can ask again
}

func (c *call) took() time.Duration { return c.end.Sub(c.begin) }

// load calls at a steady rate, whatever comes of it.
type load struct {
	world  *world
	client *http.Client
	called *atomic.Int64 // counts the calls that were begun; nil does not
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	calls []*call
}

// patience is how long a caller waits for its answer.
const patience = 10 * time.Second

// load begins to call: a request every web, a connection every line; zero is none.
func (w *world) load(web, line time.Duration) *load {
	g := w.sites[near].gateway
	<-g.Ready()
	l := &load{world: w}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w.tcp.Dial(ctx, network, g.Addrs().HTTP.String())
	}, MaxIdleConnsPerHost: 100}
	l.client = &http.Client{Transport: transport, Timeout: patience}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = func() { cancel(); l.wg.Wait(); transport.CloseIdleConnections() }
	every := func(d time.Duration, f func(c *call)) {
		if d == 0 {
			return
		}
		l.wg.Go(func() {
			ticker := time.NewTicker(d)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if l.called != nil {
					l.called.Add(1)
				}
				l.wg.Go(func() {
					c := &call{begin: time.Now()}
					f(c)
					c.end = time.Now()
					l.mu.Lock()
					defer l.mu.Unlock()
					l.calls = append(l.calls, c)
				})
			}
		})
	}
	every(web, l.get)
	line0 := g.Addrs().TCP[0].String()
	every(line, func(c *call) { l.connect(c, line0) })
	return l
}

func (l *load) get(c *call) {
	resp, err := l.client.Get("http://web.default.mesh/") //nolint:noctx // the client has a timeout
	if err != nil {
		c.err = err
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	c.begun = err != nil
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s %s", resp.StatusCode, resp.Header.Get("Isthmus-Reason"), b)
	}
	if err != nil {
		c.err = err
		return
	}
	c.by = catalog.ClusterName(b)
}

func (l *load) connect(c *call, address string) {
	c.tcp = true
	conn, err := l.world.tcp.Dial(context.Background(), "tcp", address)
	if err != nil {
		c.err = err
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "who\n"); err != nil {
		c.err = err
		return
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		c.err = err
		return
	}
	c.by = catalog.ClusterName(line[:len(line)-1])
}

// take returns the calls that have ended, and forgets them.
func (l *load) take() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

// steady waits until first has answered everything for a second.
func (l *load) steady() {
	l.world.t.Helper()
	for range 60 {
		l.take()
		time.Sleep(time.Second)
		calls := l.take()
		if len(calls) > 0 && !slices.ContainsFunc(calls, func(c *call) bool { return c.by != first }) {
			return
		}
	}
	l.world.t.Fatalf("seed %d: first is not back in service after a minute%s", l.world.seed, l.world.events.tail(time.Now().Add(-time.Minute)))
}

// times are durations to be read as quantiles.
type times []time.Duration

func (t times) at(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func (t times) String() string {
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	return fmt.Sprintf("p50 %d ms, p99 %d ms, max %d ms over %d", ms(t.at(0.5)), ms(t.at(0.99)), ms(t.at(1)), len(t))
}
