package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueLen bounds the datagrams on their way in one direction of one flow:
	// 100 Mbit/s x 100 ms of full-size packets, twice.
	queueLen = 2048
	// maxFlows bounds the sources that one relay serves at once.
	maxFlows = 256
	// flowIdle ends a flow that carries nothing; links probe five times a second.
	flowIdle = 2 * time.Minute
	// maxDatagram is above what QUIC sends (1,452 bytes).
	maxDatagram = 2048
	// socketBuffer holds bursts while the relay waits for a processor.
	socketBuffer = 4 << 20
)

// Options of a Relay.
type Options struct {
	// Listen is where the far side sends to; port 0 picks one.
	Listen netip.AddrPort
	// Target is the process behind the relay.
	Target netip.AddrPort
	// Delay is the one-way delay for datagrams from and to that source.
	Delay func(source netip.AddrPort) time.Duration
	// Cut says of each datagram from a source, or back to it, whether it is lost
	// without a word. It is called by several goroutines; nil loses none.
	Cut func(source netip.AddrPort, back bool) bool
}

// Relay carries datagrams between any number of sources and one target.
type Relay struct {
	opts    Options
	conn    *net.UDPConn
	dropped atomic.Uint64

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

// New binds the relay's public side, so that its address is known before Run.
func New(opts Options) (*Relay, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(opts.Listen))
	if err != nil {
		return nil, fmt.Errorf("wan relay: listen on %s: %w", opts.Listen, err)
	}
	setBuffers(conn)
	return &Relay{opts: opts, conn: conn, flows: map[netip.AddrPort]*flow{}}, nil
}

// Addr is the bound public address.
func (r *Relay) Addr() netip.AddrPort {
	return r.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Dropped counts the datagrams that found a full queue, not those of a cut.
func (r *Relay) Dropped() uint64 { return r.dropped.Load() }

// Run relays until ctx ends; then it closes its sockets, waits for its
// goroutines and returns nil.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()

	buf := make([]byte, maxDatagram)
	for {
		n, source, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // a source's ICMP error says nothing about the others
		}
		source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
		f, err := r.flow(ctx, &wg, source)
		if err != nil {
			r.dropped.Add(1)
			continue
		}
		f.forward(buf[:n])
	}
}

// flow returns the flow of a source, made on its first datagram.
func (r *Relay) flow(ctx context.Context, wg *sync.WaitGroup, source netip.AddrPort) (*flow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flows[source]; ok {
		return f, nil
	}
	if len(r.flows) >= maxFlows {
		return nil, fmt.Errorf("wan relay: more than %d sources", maxFlows)
	}
	up, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.opts.Target))
	if err != nil {
		return nil, fmt.Errorf("wan relay: reach %s: %w", r.opts.Target, err)
	}
	setBuffers(up)
	f := &flow{relay: r, source: source, up: up, delay: r.opts.Delay(source)}
	f.there = newLine(f.delay, func(b []byte) { _, _ = up.Write(b) })
	f.back = newLine(f.delay, func(b []byte) { _, _ = r.conn.WriteToUDPAddrPort(b, source) })
	r.flows[source] = f
	flowCtx, end := context.WithCancel(ctx)
	wg.Go(func() { f.there.run(flowCtx) })
	wg.Go(func() { f.back.run(flowCtx) })
	wg.Go(func() {
		f.readBack(flowCtx)
		end()
		r.mu.Lock()
		delete(r.flows, source)
		r.mu.Unlock()
	})
	return f, nil
}

// flow is one source's datagrams, both ways.
type flow struct {
	relay       *Relay
	source      netip.AddrPort
	up          *net.UDPConn
	delay       time.Duration
	there, back *line
	lastUse     atomic.Int64
}

func (f *flow) forward(b []byte) {
	f.lastUse.Store(time.Now().UnixNano())
	f.push(f.there, b, false)
}

func (f *flow) push(l *line, b []byte, back bool) {
	if cut := f.relay.opts.Cut; cut != nil && cut(f.source, back) {
		return
	}
	if !l.push(b) {
		f.relay.dropped.Add(1)
	}
}

// readBack carries the target's answers until ctx ends or the flow is idle.
func (f *flow) readBack(ctx context.Context) {
	defer func() { _ = f.up.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.up.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, maxDatagram)
	for ctx.Err() == nil {
		_ = f.up.SetReadDeadline(time.Now().Add(flowIdle))
		if ctx.Err() != nil {
			return
		}
		n, err := f.up.Read(buf)
		var ne net.Error
		switch {
		case err == nil:
			f.lastUse.Store(time.Now().UnixNano())
			f.push(f.back, buf[:n], true)
		case errors.As(err, &ne) && ne.Timeout():
			if time.Since(time.Unix(0, f.lastUse.Load())) >= flowIdle {
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// connection refused: the target is down; a WAN drops silently
			if !pause(ctx, 5*time.Millisecond) {
				return
			}
		}
	}
}

func setBuffers(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer) // the kernel caps it; a smaller one still works
	_ = c.SetWriteBuffer(socketBuffer)
}
