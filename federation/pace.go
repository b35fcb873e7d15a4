package federation

import (
	"context"
	"time"
)

// The pace of rounds. A change passes two of them on its way to the gateways of
// another cluster, that of its own federation and that of the peer's, and one on
// its way to its own gateways; streams go out with the round that has something
// to say, and wait for nothing else. With pauses of pauseAtMost a change is seen
// everywhere within 0.8 s, the work itself and the round trip aside: the design
// allows 1 s.
const (
	// settle is how long the first change after a quiet time waits for those that
	// come with it.
	settle = 5 * time.Millisecond
	// pauseAtLeast keeps a burst to few rounds.
	pauseAtLeast = 100 * time.Millisecond
	// workShare makes the pause a multiple of what the last round took: in a catalog
	// under constant change rounds take 2 % of a core.
	workShare = 50
	// pausePerListener is for what a round leads to and is not in its time: a write,
	// with its encryption, to everybody who is told what it changes.
	pausePerListener = 2 * time.Millisecond
	pauseAtMost      = 400 * time.Millisecond
)

// pause is the least time between the end of a round that took so long, with so
// many listeners, and the next.
func pause(took time.Duration, listeners int) time.Duration {
	return min(max(pauseAtLeast, workShare*took, time.Duration(listeners)*pausePerListener), pauseAtMost)
}

// wait is how long a change waits for its round: as long as the pause lasts, or
// after a quiet time hardly at all.
func wait(pause, since time.Duration) time.Duration { return max(settle, pause-since) }

// rounds gathers changes into rounds of work.
type rounds struct {
	wake <-chan struct{} // something has changed
	work func()
	// look is called every lookEvery, in between.
	look func()
	// listeners are those to whom a round may have to write.
	listeners func() int
}

// run works until ctx ends; the first round is due at once.
func (r rounds) run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	gather := time.NewTimer(0)
	defer gather.Stop()
	waiting, worked, gap := true, time.Time{}, pauseAtLeast
	for {
		select {
		case <-r.wake:
			if !waiting {
				gather.Reset(wait(gap, time.Since(worked)))
				waiting = true
			}
		case <-gather.C:
			waiting = false
			began := time.Now()
			r.work()
			worked = time.Now()
			gap = pause(worked.Sub(began), r.listeners())
		case <-look.C:
			r.look()
		case <-ctx.Done():
			return
		}
	}
}
