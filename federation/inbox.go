package federation

import "sync"

// change says how much must be worked out anew.
type change uint8

const (
	// evidenceChanged: what gateways saw; summaries and lists.
	evidenceChanged change = 1 << iota
	// catalogChanged: sources, peers or policy; everything.
	catalogChanged
	// epochRaised: the table must go out anew, also if it says the same.
	epochRaised
	// sourceSpoke: a source has published something, which is not judged yet.
	sourceSpoke
)

// inbox gathers changes until the loop takes them: however many there are, there
// is one bit of each.
type inbox struct {
	mu      sync.Mutex
	pending change
	epoch   uint64        // to go on above
	wake    chan struct{} // cap 1
}

// touch tells the loop that something has changed. It never blocks. The loop is
// woken by the first change that it has not taken: the others are there when it
// does, and to wake it for each of a hundred a second would cost a thread's sleep.
func (p *plane) touch(c change) {
	p.inbox.mu.Lock()
	woken := p.inbox.pending != 0
	p.inbox.pending |= c
	p.inbox.mu.Unlock()
	if woken {
		return
	}
	select {
	case p.inbox.wake <- struct{}{}:
	default:
	}
}

// heedSources is called before sources are asked for what they have published: one
// that speaks from here on may have been asked already.
func (p *plane) heedSources() {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	p.inbox.pending &^= sourceSpoke
}

func (p *plane) takeChanges() (c change, above uint64) {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	c, above = p.inbox.pending, p.inbox.epoch
	p.inbox.pending, p.inbox.epoch = 0, 0
	select {
	case <-p.inbox.wake: // it was for what is taken
	default:
	}
	return c, above
}
