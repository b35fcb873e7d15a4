package dnsway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

const (
	// DefaultTTL is how long an answer may be remembered. Addresses stay; what ends is
	// that a service exists.
	DefaultTTL = 30 * time.Second
	// DefaultRate is the queries a second of one source: those of a busy host.
	DefaultRate = 1000
	// floodFactor is how far over its rate a source is not even read.
	floodFactor = 2
	// readTimeout bounds the arrival of a query over TCP, idleTimeout the time between
	// two.
	readTimeout = 2 * time.Second
	idleTimeout = 10 * time.Second
	// queriesPerConnection bounds a TCP connection's life.
	queriesPerConnection = 1000
	// syncInterval is how often sockets are compared with what is wanted when nothing
	// has changed: a port that was taken may be free.
	syncInterval = time.Minute
	// complainInterval is the least time between two complaints in the log.
	complainInterval = time.Second
)

// Options configure a Way. PacketConn, Listener, Plan, Caller, Book and Hub are
// required.
type Options struct {
	// PacketConn and Listener are what queries come from: UDP, and TCP within bounds
	// (accept.Listener).
	PacketConn net.PacketConn
	Listener   net.Listener
	// Sources are the ranges that may ask over UDP; none means everyone.
	Sources []netip.Prefix
	// Plan is the plan in force, nil before the first table.
	Plan func() *route.Plan
	// Caller is who everyone who asks is taken for.
	Caller string
	Book   *virtual.Book
	Hub    *virtual.Hub
	// Rules give ports their numbers.
	Rules []ports.Rule
	// TTL of what exists, DefaultTTL if 0.
	TTL time.Duration
	// Rate is the queries a second of one source, DefaultRate if 0.
	Rate float64
	// Upstreams are asked for other names; none: these are refused.
	Upstreams  []netip.AddrPort
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Way is the DNS server.
type Way struct {
	o       Options
	at      netip.AddrPort
	metrics *metrics
	forward *forwarder // nil: nothing is forwarded
	rate    *limiter
	flood   *limiter

	index    atomic.Pointer[index]
	indexing sync.Mutex

	serving context.Context // ends what waits for resolvers
	stop    context.CancelFunc
	changed chan struct{}

	complained atomic.Int64
}

// New returns a Way. It serves nothing before Run.
func New(o Options) (*Way, error) {
	if o.PacketConn == nil || o.Listener == nil || o.Plan == nil || o.Caller == "" || o.Book == nil || o.Hub == nil {
		return nil, errors.New("dns way: an option is missing")
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Way{o: o, rate: newLimiter(o.Rate), flood: newLimiter(floodFactor * o.Rate), changed: make(chan struct{}, 1)}
	if a, ok := o.PacketConn.LocalAddr().(*net.UDPAddr); ok {
		w.at = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	if len(o.Upstreams) > 0 {
		w.forward = newForwarder(o.Upstreams)
	}
	w.serving, w.stop = context.WithCancel(context.Background())
	var err error
	w.metrics, err = newMetrics(o.Registerer, w)
	return w, err
}

// Changed says that a new table is in force.
func (w *Way) Changed() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// StopAccepting ends the answering of queries; askers turn to their next resolver. It is
// safe to call twice.
func (w *Way) StopAccepting() { w.stop() }

// Run serves until StopAccepting was called or ctx has ended. It returns an error only
// if serving failed by itself.
func (w *Way) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.stop)
	defer stop()
	defer w.stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(w.follow)
	failed := make(chan error, 2)
	for _, s := range []*dns.Server{w.server(&dns.Server{PacketConn: w.o.PacketConn}), w.server(&dns.Server{Listener: w.o.Listener})} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		wg.Go(func() {
			defer close(ended)
			if err := s.ActivateAndServe(); err != nil && w.serving.Err() == nil {
				failed <- err
			}
		})
		wg.Go(func() {
			select {
			case <-started:
			case <-ended:
				return // it never began
			}
			<-w.serving.Done()
			// Queries take no longer than their context, which has ended.
			_ = s.Shutdown() // fails only on a server that has ended
		})
	}
	select {
	case <-w.serving.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// server sets what both transports share.
func (w *Way) server(s *dns.Server) *dns.Server {
	s.Handler, s.MsgAcceptFunc = w, accept
	s.UDPSize = maxUDP
	s.ReadTimeout, s.WriteTimeout = readTimeout, readTimeout
	s.IdleTimeout = func() time.Duration { return idleTimeout }
	s.MaxTCPQueries = queriesPerConnection
	s.DecorateReader = func(inner dns.Reader) dns.Reader { return &reader{Reader: inner, w: w} }
	s.MsgInvalidFunc = func([]byte, error) { w.metrics.dropped.WithLabelValues(droppedBroken).Inc() }
	return s
}

// follow keeps the virtual listeners in line with the table in force.
func (w *Way) follow() {
	ticker := time.NewTicker(syncInterval)
	defer ticker.Stop()
	for {
		w.sync()
		select {
		case <-w.serving.Done():
			return
		case <-w.changed:
		case <-ticker.C:
		}
	}
}

// sync listens for the services that have an address and that the caller may call, and
// for no others.
func (w *Way) sync() {
	v := w.look()
	if v == nil {
		return
	}
	type place struct {
		key virtual.Key
		at  netip.Addr
	}
	var places []place
	w.o.Book.Each(func(k virtual.Key, a netip.Addr) { places = append(places, place{k, a}) })
	known := make(map[virtual.Key]bool, len(places))
	for _, p := range places {
		s := v.find(p.key)
		if s == nil {
			_ = w.o.Hub.Set(p.at, nil) // closing fails on nothing
			continue
		}
		known[p.key] = true
		if err := w.o.Hub.Set(p.at, targets(w.o.Rules, p.key, s)); err != nil && w.serving.Err() == nil {
			w.metrics.failures.Inc()
			if w.mayComplain() {
				w.o.Log.Warn("a virtual port cannot be listened on", "service", p.key.String(), "address", p.at.String(), "err", err)
			}
		}
	}
	w.o.Book.Seen(func(k virtual.Key) bool { return known[k] })
	// What was given to another service left its old address.
	for _, a := range w.o.Hub.Addresses() {
		if _, ok := w.o.Book.At(a); !ok {
			_ = w.o.Hub.Set(a, nil) // closing fails on nothing
		}
	}
}

// mayComplain reports whether a warning may be logged now, at most one a second: queries
// must not fill a disk.
func (w *Way) mayComplain() bool {
	now := time.Now().UnixNano()
	last := w.complained.Load()
	return now-last >= int64(complainInterval) && w.complained.CompareAndSwap(last, now)
}
