package tunnel

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// link is the set of connections between this process and one process of a
// remote gateway, all dialed by the same side. It lives as long as its control
// connection.
type link struct {
	node     *Node
	id       wire.ID
	lane     Lane
	dialed   bool
	owner    *target // that keeps a dialed link; nil when let go. Guarded by node.mu
	remote   Remote
	instance wire.ID // of the remote process
	address  string
	born     time.Time
	path     pathMeter
	out      *outbox
	features uint64  // that both ends have
	proofs   *proofs // nil where an end cannot re-authenticate
	bulk     bulkMeter
	probes   atomic.Pointer[probes]
	pool     *pool // connections for a stream each, of the TLS lane

	ctx     context.Context // ends with the link
	cancel  context.CancelFunc
	drained chan struct{}   // closed when the peer says that it drains
	staying context.Context // ends then, too, or with the link
	leave   context.CancelFunc
	// succeeded is closed when the peer says that it goes on in another process.
	succeeded chan struct{}
	httpOpen  chan struct{} // closed when the first HTTP connection is there
	extended  chan struct{} // something was proven: the deadline may have moved

	// rttNanos is the path's delay, kept where pick reads it for every stream.
	rttNanos atomic.Int64
	streams  atomic.Int64 // open streams and requests, both directions
	inbound  atomic.Int64 // those that the peer opened

	// raw and http are what streams and requests may be opened on.
	raw, http atomic.Pointer[[]*connection]

	meters struct {
		streamIn, streamOut, flowIn, flowOut, httpIn, httpOut streamMeter
		// Datagrams by how they travelled; datagramLost are those of no known flow.
		datagramIn, datagramOut, frameIn, frameOut, datagramLost prometheus.Counter
	}

	mu          sync.Mutex
	connections map[uint32]*connection
	state       LinkState
	reason      string
	since       time.Time
	err         *LinkError // why it ended
	announced   bool       // the peer was told that we drain
	peerDrains  bool
	told        bool      // the peer was told of our successor
	follows     bool      // the peer has a successor
	idleSince   time.Time // since when a draining link has no streams
	called      time.Time // when a callback was last asked for
	calledBack  bool      // callback connections are being kept
	httpOnce    sync.Once
}

func (n *Node) newLink(on Lane, id wire.ID, remote Remote, instance wire.ID, address string) *link {
	now := time.Now()
	l := &link{
		node: n, lane: on, id: id, remote: remote, instance: instance, address: address, born: now,
		out: newOutbox(), drained: make(chan struct{}), succeeded: make(chan struct{}), httpOpen: make(chan struct{}),
		extended:    make(chan struct{}, 1),
		connections: make(map[uint32]*connection), state: StateConnecting, since: now,
	}
	l.ctx, l.cancel = context.WithCancel(n.ctx)
	l.staying, l.leave = context.WithCancel(l.ctx)
	l.raw.Store(&[]*connection{})
	l.http.Store(&[]*connection{})
	l.meters.streamIn = n.metrics.stream(remote.Cluster, on, inboundDirection, carrierStream)
	l.meters.streamOut = n.metrics.stream(remote.Cluster, on, outboundDirection, carrierStream)
	l.meters.flowIn = n.metrics.stream(remote.Cluster, on, inboundDirection, carrierFlow)
	l.meters.flowOut = n.metrics.stream(remote.Cluster, on, outboundDirection, carrierFlow)
	l.meters.datagramIn = n.metrics.datagrams.WithLabelValues(remote.Cluster, inboundDirection, pathDatagram)
	l.meters.datagramOut = n.metrics.datagrams.WithLabelValues(remote.Cluster, outboundDirection, pathDatagram)
	l.meters.frameIn = n.metrics.datagrams.WithLabelValues(remote.Cluster, inboundDirection, pathStream)
	l.meters.frameOut = n.metrics.datagrams.WithLabelValues(remote.Cluster, outboundDirection, pathStream)
	l.meters.datagramLost = n.metrics.lost.WithLabelValues(remote.Cluster, "unknown_flow")
	l.meters.httpIn = n.metrics.stream(remote.Cluster, on, inboundDirection, carrierHTTP)
	l.meters.httpOut = n.metrics.stream(remote.Cluster, on, outboundDirection, carrierHTTP)
	return l
}

// attach adds a connection; it fails when the link has ended or has one of that
// number.
func (l *link) attach(c *connection) bool {
	l.mu.Lock()
	free := l.err == nil && l.connections[c.number] == nil
	if free {
		l.connections[c.number] = c
		l.publish()
	}
	l.mu.Unlock()
	if free {
		l.proofs.prove() // our certificate may have changed since its handshake
	}
	return free
}

// allConnections lists those of now.
func (l *link) allConnections() []*connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.connections))
}

// detach removes a connection that has ended.
func (l *link) detach(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connections[c.number] == c {
		l.account(c)
		delete(l.connections, c.number)
		l.publish()
	}
}

// publish rebuilds what pick reads. mu is held.
func (l *link) publish() {
	var raw, http []*connection
	for _, c := range l.connections {
		switch {
		case c.client != nil:
			http = append(http, c)
		case c.quic != nil && c.number < httpNumber:
			raw = append(raw, c)
		}
	}
	byNumber := func(a, b *connection) int { return cmp.Compare(a.number, b.number) }
	slices.SortFunc(raw, byNumber)
	slices.SortFunc(http, byNumber)
	l.raw.Store(&raw)
	l.http.Store(&http)
	l.node.httpNews.wake()
}

// httpReady lets a new link be used: the first HTTP connection is there.
func (l *link) httpReady() { l.httpOnce.Do(func() { close(l.httpOpen) }) }

// up lets the link take streams.
func (l *link) up() {
	l.transit(func() bool {
		if l.state != StateConnecting {
			return false
		}
		l.state, l.reason = StateUp, ""
		return true
	})
}

// reasonQuiet: a TLS link that has not been heard since the QUIC one beside it died.
const reasonQuiet = "quiet"

// doubt takes a TLS link out of use until it is heard: QUIC has just died in silence,
// and what has died may be the path or the gateway. A lane that works was heard a
// moment ago.
func (l *link) doubt(now time.Time) {
	p := l.probes.Load()
	if l.lane != LaneTLS || p == nil || p.quiet(now) < p.interval+p.interval/2 {
		return
	}
	l.transit(func() bool {
		if l.state != StateUp {
			return false
		}
		l.state, l.reason = StateConnecting, reasonQuiet
		return true
	})
}

// heardAgain takes doubt back.
func (l *link) heardAgain() {
	if l.lane != LaneTLS {
		return
	}
	l.mu.Lock()
	doubted := l.state == StateConnecting && l.reason == reasonQuiet
	l.mu.Unlock()
	if !doubted {
		return
	}
	l.transit(func() bool {
		if l.state != StateConnecting || l.reason != reasonQuiet {
			return false
		}
		l.state, l.reason = StateUp, ""
		return true
	})
}

// drain stops new streams on the link; reason says why. With announce the peer
// is told to do the same.
func (l *link) drain(reason string, announce bool) {
	l.transit(func() bool {
		if announce && !l.announced {
			l.announced = true
			l.out.drain()
		}
		if l.state != StateUp && l.state != StateConnecting {
			return false
		}
		l.state, l.reason = StateDraining, reason
		return true
	})
}

// peerDrain is told that the peer takes nothing new.
func (l *link) peerDrain() {
	l.transit(func() bool {
		if l.peerDrains {
			return false
		}
		l.peerDrains = true
		close(l.drained)
		l.leave()
		if l.state == StateUp || l.state == StateConnecting {
			l.state, l.reason = StateDraining, wire.Draining.String()
		}
		return true
	})
}

// close ends the link and all its connections, at once. Only the first call
// counts.
func (l *link) close(status wire.Status, cause error) {
	if errors.Is(cause, errDeaf) || errors.Is(cause, errUnheard) {
		l.node.fellSilent(l)
	}
	var open []*connection
	first := l.transit(func() bool {
		if l.err != nil {
			return false
		}
		l.err = &LinkError{Cluster: l.remote.Cluster, Gateway: l.remote.Gateway, Status: status, Delivered: true, Err: cause}
		l.state, l.reason = StateDown, status.String()
		if cause != nil {
			if r := reasonOf(cause); r != reasonDial {
				l.reason = r
			}
		}
		for _, c := range l.connections {
			open = append(open, c)
		}
		return true
	})
	if !first {
		return
	}
	l.cancel()
	for _, c := range open {
		_ = c.qc.CloseWithError(quic.ApplicationErrorCode(status), status.String())
	}
	l.node.linkEnded(l)
}

// transit changes the state, and the routes with it: who sees a link up can use
// it. f says whether it changed anything. No lock may be held.
func (l *link) transit(f func() bool) bool {
	n := l.node
	n.mu.Lock()
	l.mu.Lock()
	before := l.state
	changed := f()
	if l.state != before {
		l.since = time.Now()
	}
	l.mu.Unlock()
	if changed {
		n.rebuild()
	}
	n.mu.Unlock()
	if changed {
		notify(n.changes)
	}
	return changed
}

// controlled reports whether the control connection is alive.
func (l *link) controlled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.connections[controlNumber]
	return c != nil && c.alive()
}

// cause is why the link ended, nil while it lives.
func (l *link) cause() *LinkError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// takes reports whether new streams may be opened on the link.
func (l *link) takes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == StateUp
}

// leaving reports whether the link will not take streams any more.
func (l *link) leaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == StateDraining || l.state == StateDown
}

// refusesInbound reports whether streams of the peer are refused: after it was
// told, those that still come crossed the news.
func (l *link) refusesInbound() bool {
	if l.node.draining.Load() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.announced
}

// expires is when the first of its connections must end.
func (l *link) expires() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expiresLocked()
}

func (l *link) expiresLocked() time.Time {
	var first time.Time
	for _, c := range l.connections {
		if end := c.deadline(); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// score orders links: lower is better. A link with twice the round trip gets half
// the streams; the added millisecond keeps near links from differing by noise.
func (l *link) score() int64 {
	return (l.rttNanos.Load() + int64(time.Millisecond)) * (l.streams.Load() + 1)
}

// info describes the link.
func (l *link) info() LinkInfo {
	s := l.path.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	i := LinkInfo{
		Cluster: l.remote.Cluster, Gateway: l.remote.Gateway, Address: l.address, Dialed: l.dialed, Lane: l.lane,
		State: l.state, Reason: l.reason, Since: l.since,
		RTT: s.rtt, MinRTT: s.least, Jitter: s.jitter, Loss: s.loss,
		BytesSent: s.bytesSent, BytesReceived: s.bytesReceived,
		BandwidthOut: s.rateOut, BandwidthIn: s.rateIn,
		Streams: int(l.streams.Load()), Connections: len(l.connections),
		Expires: l.expiresLocked(),
	}
	if leaf := l.peerLeaf(); leaf != nil {
		i.PeerNotAfter = leaf.NotAfter
		i.PeerSerial = leaf.SerialNumber.Text(16)
		i.PeerAuthority = hex.EncodeToString(leaf.AuthorityKeyId)
	}
	return i
}
