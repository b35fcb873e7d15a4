package tunnel

import (
	"cmp"
	"errors"
	"io"
	"sync"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// serveControl serves a link's control connection, and so the link's life: it
// returns when the link has ended.
func (n *Node) serveControl(c *connection, s duplex, frames *wire.FrameReader) {
	l := c.link.Load()
	p := newProbes(l, c)
	l.probes.Store(p)
	var wg sync.WaitGroup
	if l.proofs != nil {
		l.proofs.ask()
	}
	wg.Go(func() { n.readControl(l, frames) })
	wg.Go(func() { l.out.run(l.ctx, s) })
	wg.Go(p.send)
	if c.tcp != nil {
		c.tcp.OnDatagram(p.take)
		<-c.qc.Context().Done()
	} else {
		wg.Go(p.receive)
		n.serveStreams(c)
	}
	cause := c.ended()
	l.close(closeStatus(cause), cause)
	wg.Wait()
	if c.tcp != nil {
		c.tcp.Wait()
	}
	l.detach(c)
	n.forget(c, wire.Internal)
}

var errControlEnded = errors.New("peer ended the control stream")

// readControl handles control frames until the stream ends, which ends the link.
func (n *Node) readControl(l *link, frames *wire.FrameReader) {
	// Waiting, not refusing: flow control passes the pressure on to the sender.
	limit := rate.NewLimiter(controlRate, controlBurst)
	for {
		if err := limit.Wait(l.ctx); err != nil {
			return
		}
		t, body, err := frames.Next()
		if err == nil {
			err = n.handleFrame(l, t, body)
		}
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[*wire.ParseError](err); ok || isEOF(err) {
			if isEOF(err) {
				err = errControlEnded
			}
			n.log.Warn("peer broke the protocol", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "err", err)
			l.close(wire.Protocol, err)
		} else if _, ok := errors.AsType[*identity.PeerError](err); ok {
			// A proof with a wrong signature: the other end has no such key, and says
			// that it has.
			l.close(wire.Protocol, err)
		} else if _, ok := errors.AsType[*quic.StreamError](err); ok {
			l.close(wire.Protocol, errControlEnded)
		}
		return // else the connection has ended; serveControl knows
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func (n *Node) handleFrame(l *link, t wire.FrameType, body []byte) error {
	switch t {
	case wire.FrameReport:
		r, err := wire.ParseReport(body)
		if err != nil {
			return err
		}
		n.o.Handler.HandleReport(l.remote, r)
	case wire.FrameLoad:
		load, err := wire.ParseLoad(body)
		if err != nil {
			return err
		}
		n.o.Handler.HandleLoad(l.remote, load)
	case wire.FrameRate:
		r, err := wire.ParseRate(body)
		if err != nil {
			return err
		}
		l.path.told(r.BytesPerSecond)
	case wire.FrameDrain:
		d, err := wire.ParseDrain(body)
		if err != nil {
			return err
		}
		if d.Successor == l.remote.Gateway {
			n.log.Info("peer goes on in another process", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", l.address)
			n.follow(l)
			return nil
		}
		n.log.Info("peer drains link", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", l.address)
		l.peerDrain()
	case wire.FrameCallback:
		n.callBack(l)
	case wire.FrameChallenge, wire.FrameProof:
		return l.handleProofs(t, body)
	case wire.FrameHello:
		return &wire.ParseError{Part: "hello", Rule: "is repeated"}
	}
	return nil
}

// callBack dials the connections that the other side of a link may send requests
// on. It asked because it cannot dial us.
func (n *Node) callBack(l *link) {
	l.mu.Lock()
	again := l.calledBack
	l.calledBack = true
	control := l.connections[controlNumber]
	l.mu.Unlock()
	if again || !l.dialed || control == nil {
		return
	}
	if l.pool != nil {
		l.pool.callback()
	}
	addr := control.qc.RemoteAddr()
	for i := range uint32(n.o.HTTPConnections) {
		n.spawn(func() { n.keepConnection(l, addr, callbackNumber+i) })
	}
}

// SendReport sends r to every linked gateway; a report that still waits to be
// sent is replaced. The error is a *wire.FieldError: r breaks a bound.
func (n *Node) SendReport(r wire.Report) error {
	frame, err := wire.AppendReport(nil, &r)
	if err != nil {
		return err
	}
	n.eachPeer(func(l *link) { l.out.sendReport(frame) })
	return nil
}

// SendLoads sends each linked gateway its own load, unless of says that there is
// nothing to tell; one that still waits to be sent is replaced. The error is that of
// the first that breaks a bound.
func (n *Node) SendLoads(of func(Remote) (wire.Load, bool)) (err error) {
	n.eachPeer(func(l *link) {
		load, tell := of(l.remote)
		if !tell {
			return
		}
		frame, broken := wire.AppendLoad(nil, &load)
		if broken != nil {
			err = cmp.Or(err, broken)
			return
		}
		l.out.sendLoad(frame)
	})
	return err
}

// eachPeer calls f with one link of each peer's process, not with each link: with
// links in both directions the peer would get everything twice.
func (n *Node) eachPeer(f func(*link)) {
	sent := make(map[wire.ID]bool)
	for _, dialed := range []bool{true, false} {
		for _, l := range n.allLinks() {
			if l.dialed == dialed && !sent[l.instance] && !l.leaving() {
				f(l)
				sent[l.instance] = true
			}
		}
	}
}
