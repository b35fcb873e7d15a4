package federation

import (
	"context"
	"time"
)

// The pace. A change waits for the round that takes it in, which its own gateways
// see at once, and for the telling that brings it to peers' federations, where it
// waits for a round again. Tellings go with rounds, and streams go out with them
// and wait for nothing else. Under constant change of the largest catalog a change
// waits pauseAtMost at its own cluster's gateways, and at those of others twice
// that and pauseAtMost more, 0.75 s, beside the work of the rounds and the round
// trip: the design allows 1 s. After a quiet time the first change waits settle
// each time.
const (
	// settle is how long the first change after a quiet time waits for those that
	// come with it.
	settle = 5 * time.Millisecond
	// pauseAtLeast keeps a burst to few rounds.
	pauseAtLeast = 100 * time.Millisecond
	// workShare makes the pause a multiple of what the last round took: in a catalog
	// under constant change rounds take 1 % of a core, up to where pauseAtMost sets
	// the pace. What is saved in a round would else be spent on more of them.
	workShare   = 100
	pauseAtMost = 250 * time.Millisecond
	// tellPerListener is for what a telling leads to and is not in the time of its
	// round: a write, with its encryption, to everybody who is told what it changes.
	tellPerListener = 2500 * time.Microsecond
	tellAtMost      = 500 * time.Millisecond
)

// pause is the least time between the end of a round that took so long and the
// next.
func pause(took time.Duration) time.Duration {
	return min(max(pauseAtLeast, workShare*took), pauseAtMost)
}

// wait is how long a change waits for its round: as long as the pause lasts, or
// after a quiet time hardly at all.
func wait(pause, since time.Duration) time.Duration { return max(settle, pause-since) }

// tells reports whether a round tells peers what has changed, since after the last
// telling, or leaves it to the next round, a pause later: whichever is nearer to
// the time that so many listeners are given.
func tells(listeners int, since, pause time.Duration) bool {
	return since >= min(time.Duration(listeners)*tellPerListener, tellAtMost)-pause/2
}

// rounds gathers changes into rounds of work.
type rounds struct {
	wake <-chan struct{} // something has changed
	// work does one round; more asks for another one after the pause, whether
	// something changes or not.
	work func(pause time.Duration) (more bool)
	// look is called every lookEvery, in between, and after the first round: who asks a
	// federation that has just started sees what there is.
	look func()
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
			first, began := worked.IsZero(), time.Now()
			waiting = r.work(gap)
			worked = time.Now()
			if first {
				r.look()
			}
			gap = pause(worked.Sub(began))
			if waiting {
				gather.Reset(gap)
			}
		case <-look.C:
			r.look()
		case <-ctx.Done():
			return
		}
	}
}
