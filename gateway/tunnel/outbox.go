package tunnel

import (
	"context"
	"io"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// outbox holds the control frames that a link has still to send. It is bounded
// by having one place for each: a report or load that waits is replaced by a newer one.
type outbox struct {
	mu       sync.Mutex
	draining bool
	// successor is what the drain names, if anything.
	successor string
	callback  bool
	// Encoded frames.
	challenge, proof, report, load, rate []byte
	news                                 chan struct{}
}

func newOutbox() *outbox { return &outbox{news: make(chan struct{}, 1)} }

func (o *outbox) set(f func()) {
	o.mu.Lock()
	f()
	o.mu.Unlock()
	notify(o.news)
}

func (o *outbox) drain()                  { o.set(func() { o.draining, o.successor = true, "" }) }
func (o *outbox) succeed(by string)       { o.set(func() { o.draining, o.successor = true, by }) }
func (o *outbox) askCallback()            { o.set(func() { o.callback = true }) }
func (o *outbox) sendReport(frame []byte) { o.set(func() { o.report = frame }) }
func (o *outbox) sendLoad(frame []byte)   { o.set(func() { o.load = frame }) }
func (o *outbox) sendRate(frame []byte)   { o.set(func() { o.rate = frame }) }

// A challenge repeats what the one before said, and there is one proof at a time:
// neither loses anything by its successor.
func (o *outbox) sendChallenge(frame []byte) { o.set(func() { o.challenge = frame }) }
func (o *outbox) sendProof(frame []byte)     { o.set(func() { o.proof = frame }) }

// take returns the frames that wait and forgets them.
func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b []byte
	if o.draining { // first: it is what peers must know soonest
		b = wire.AppendDrain(b, wire.Drain{Successor: o.successor})
	}
	if o.callback {
		b = wire.AppendCallback(b)
	}
	b = append(b, o.challenge...)
	b = append(b, o.proof...)
	b = append(b, o.report...)
	b = append(b, o.load...)
	b = append(b, o.rate...)
	o.draining, o.callback = false, false
	o.challenge, o.proof, o.report, o.load, o.rate = nil, nil, nil, nil, nil
	return b
}

// run writes frames to w until ctx ends or w fails.
func (o *outbox) run(ctx context.Context, w io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.news:
		}
		if b := o.take(); len(b) > 0 {
			if _, err := w.Write(b); err != nil {
				return // the connection has ended; who serves it knows
			}
		}
	}
}
