package tunnel

import (
	"context"
	"sync"
	"time"
)

// A link that only the peer has dialed carries streams at once, and requests only
// when there are HTTP connections the other way: ours, which a new link's peer can
// expect within some round trips, or those by which it calls back. The dialing
// side of a link waits for the first of them before it uses the link; the other
// side's requests wait here, as long.

// broadcast wakes all who wait for it.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

// next returns a channel that the next wake closes.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// awaitHTTP waits until a link to cluster carries requests, and returns it. It
// waits only while a link is new, and returns nil if it need not or must no longer.
func (n *Node) awaitHTTP(ctx context.Context, cluster string, ok func(*link) bool) *link {
	var timer *time.Timer
	for {
		news := n.httpNews.next()
		if l := n.pick(cluster, nil, ok); l != nil {
			return l
		}
		left := n.httpExpected(cluster)
		if left <= 0 {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// httpExpected is how long a link to cluster may still take to carry requests.
func (n *Node) httpExpected(cluster string) time.Duration {
	var left time.Duration
	for _, l := range (*n.routes.Load())[cluster] {
		if !l.dialed {
			left = max(left, upTimeout-time.Since(l.born))
		}
	}
	return left
}
