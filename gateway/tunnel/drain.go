package tunnel

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// AnnounceDrain tells the peers that this gateway takes nothing new, and refuses
// inbound streams and requests with wire.Draining from now on. Streams may still be
// opened to peers. Drain, which comes next, does so too where this has not been
// called.
func (n *Node) AnnounceDrain() {
	if n.draining.Swap(true) {
		return
	}
	n.log.Info("draining", "count", n.open())
	for _, l := range n.allLinks() {
		l.drainForGood()
	}
}

// Drain announces that this gateway takes nothing new, and waits until what is in
// progress is done, inbound and outbound, or ctx ends; then it closes all links.
// Streams may still be opened to peers meanwhile. It returns ctx's cause if it cut
// any stream. After it the node has no links and makes none; end Run.
func (n *Node) Drain(ctx context.Context) error {
	n.AnnounceDrain()
	links := n.allLinks()
	// GOAWAY, beside our own frame: requests that cross the news are rejected by
	// http3 itself, as certainly not processed.
	goAway, stop := context.WithCancel(ctx)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = n.server.Shutdown(goAway)
	}()

	err := n.waitIdle(ctx)
	n.linger(ctx, links)
	n.end()
	n.closeAll(wire.Draining)
	stop()
	<-closed
	return err
}

// drainForGood announces the drain of the whole gateway on a link. The link
// stays in use for our own streams: it is the peer that must not open any.
func (l *link) drainForGood() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.announced {
		l.announced = true
		l.out.drain()
	}
}

// InProgress counts streams and requests in progress.
func (n *Node) InProgress() int64 { return n.open() }

func (n *Node) open() int64 { return n.inbound.Load() + n.outbound.Load() }

// waitIdle waits until nothing is in progress.
func (n *Node) waitIdle(ctx context.Context) error {
	for n.open() > 0 {
		select {
		case <-ctx.Done():
			if open := n.open(); open > 0 {
				n.log.Warn("drain cut streams", "count", open)
				return context.Cause(ctx)
			}
			return nil
		case <-n.idle:
		}
	}
	return nil
}

// linger gives the last bytes of the last streams the time to be acknowledged,
// and the news of the drain the time to arrive.
func (n *Node) linger(ctx context.Context, links []*link) {
	wait := lingerMin
	for _, l := range links {
		wait = max(wait, l.linger())
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
