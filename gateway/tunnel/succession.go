package tunnel

import (
	"context"
	"time"
)

const (
	// followPause is how often a link that was dialed by the process before is looked
	// at for one of the process after, which has made it already.
	followPause = 100 * time.Millisecond
	// leaveTime is how long peers may take to leave the links of the process before
	// when nothing is on them: two attempts to dial the process after, which is there.
	leaveTime = 2 * handshakeTimeout
	// leaveLeast lets the news reach also those of whom it cannot be seen.
	leaveLeast = time.Second
)

// Succession is the drain of a process whose gateway goes on in another one, at the
// same address and with links of its own. Where a drain says "take nothing new
// there", which costs what has nowhere else to go, this says "go over": a peer that
// dialed makes a link to the successor, and only then leaves this one; a peer that
// was dialed has one, and leaves this one for it. Until then streams and requests are
// taken here as ever. So there is no moment without a link.

// AnnounceSuccessor tells the peers that another process of this gateway has taken
// over its address. New links are refused from now on; those that there are serve
// until their peers have left.
func (n *Node) AnnounceSuccessor() {
	if n.left.Swap(true) {
		return
	}
	n.log.Info("leaving links to the successor", "count", n.open())
	for _, l := range n.allLinks() {
		l.tellSuccessor()
	}
}

// Leave is what goes before Drain where there is a successor: it announces it, and waits
// until the peers have gone over to it, or have had the time to.
func (n *Node) Leave(ctx context.Context) {
	n.AnnounceSuccessor()
	began := time.Now()
	for sleep(ctx, followPause) {
		waited := time.Since(began)
		if waited >= leaveLeast && n.isLeft() || waited >= leaveTime && n.open() == 0 {
			return
		}
	}
}

// isLeft reports whether every peer that dialed us has gone over.
func (n *Node) isLeft() bool {
	for _, l := range n.allLinks() {
		if !l.dialed && !l.leaving() {
			return false
		}
	}
	return true
}

// hasLeft tells the peer of a link that came up while, or after, the others were told.
func (n *Node) hasLeft(l *link) {
	if n.left.Load() {
		l.tellSuccessor()
	}
}

func (l *link) tellSuccessor() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told && !l.announced {
		l.told = true
		l.out.succeed(l.node.o.Gateway)
	}
}

// follow leaves a link whose peer has a successor. One that we dialed is renewed by its
// target; one that we did not dial is left for the link that the successor has dialed.
func (n *Node) follow(l *link) {
	l.mu.Lock()
	again := l.follows
	l.follows = true
	l.mu.Unlock()
	if again {
		return
	}
	if l.dialed {
		close(l.succeeded)
		return
	}
	n.spawn(func() {
		for !n.hasOther(l) {
			if !sleep(l.ctx, followPause) {
				return
			}
		}
		l.peerDrain()
	})
}

// hasSuccessor reports whether the peer of a link that we dialed goes on in another process.
func (l *link) hasSuccessor() bool {
	select {
	case <-l.succeeded:
		return true
	default:
		return false
	}
}

// hasOther reports whether another process of a link's gateway has a link that takes
// streams.
func (n *Node) hasOther(l *link) bool {
	for _, o := range n.allLinks() {
		if o.remote == l.remote && o.instance != l.instance && o.takes() {
			return true
		}
	}
	return false
}
