package tunnel

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// What a link can carry is seen only while it is full. A writer that waits in Write
// is what fills it: as long as one waits, QUIC has something to send and its
// congestion control alone says how much. The bytes that went out in such a time,
// less those that were lost, over that time, are a sample of the delivery rate;
// the greatest of the last while is the estimate. That is BBR's BtlBw filter
// (Cardwell et al. 2016) with waiting writers in the place of its test for being
// application-limited, since quic-go shows its counters and not its
// acknowledgements.
const (
	// bulkWrite is the least Write that is looked at: two packets.
	bulkWrite = 2 << 10
	// bulkSpan is the least time of a sample, and bulkTrips the least in round
	// trips, so that a window's growth within a sample is small.
	bulkSpan  = 100 * time.Millisecond
	bulkTrips = 2
	// bulkWaiting is the least share of a sample's time in which a writer waited.
	bulkWaiting = 0.7
	// bulkLeast is the least that a sample carries: less says little.
	bulkLeast = 32 << 10
	// bulkFull is the least share of a window per round trip at which it was the
	// window that held a sender back.
	bulkFull = 0.5
	// bulkPause ends a sample: a writer that was away for so long was elsewhere.
	bulkPause = 50 * time.Millisecond
	// rateSlots of rateSlot each are the window of the greatest rate; a lower one
	// is believed after that time. The last rate is known for rateLife.
	rateSlots = 10
	rateSlot  = time.Second
	rateLife  = 10 * time.Minute
	// retell is how often a rate that is the same is told.
	retell = 30 * time.Second
)

// bulkMeter takes samples of what a link delivers.
type bulkMeter struct {
	mu      sync.Mutex
	writers int
	since   time.Time // of the sample under way; zero without one
	entered time.Time // since when a writer waits, while one does
	left    time.Time // when the last one left
	waited  time.Duration
	before  []count

	told   uint64 // the rate that the peer was told last
	toldAt time.Time
}

// sending marks a Write that may wait.
type sending struct{ link *link }

// sending begins a Write of n bytes; end must follow.
func (c *connection) sending(n int) sending {
	if n < bulkWrite {
		return sending{}
	}
	l := c.link.Load()
	if l == nil {
		return sending{}
	}
	l.bulk.enter(time.Now(), l)
	return sending{link: l}
}

func (s sending) end() {
	if s.link != nil {
		s.link.bulk.leave(time.Now(), s.link)
	}
}

// sendingBody is a request's body; what comes between two reads is the waiting of
// HTTP/3 in a Write. One goroutine reads, and Close may come from another.
type sendingBody struct {
	io.ReadCloser
	conn   *connection
	mu     sync.Mutex
	under  sending
	closed bool
}

// Read implements io.Reader.
func (b *sendingBody) Read(p []byte) (int, error) {
	b.over(false)
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.under = b.conn.sending(n)
	}
	return n, err
}

// Close implements io.Closer.
func (b *sendingBody) Close() error {
	b.over(true)
	return b.ReadCloser.Close()
}

func (b *sendingBody) over(closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under.end()
	b.under, b.closed = sending{}, b.closed || closed
}

func (b *bulkMeter) enter(now time.Time, l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writers++; b.writers > 1 {
		return
	}
	if b.since.IsZero() || now.Sub(b.left) > bulkPause {
		b.begin(now, l)
	}
	b.entered = now
}

func (b *bulkMeter) leave(now time.Time, l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writers--
	b.waited += now.Sub(b.entered)
	b.entered, b.left = now, now
	span := now.Sub(b.since)
	if span < bulkSpan || span < bulkTrips*time.Duration(l.rttNanos.Load()) {
		return
	}
	if b.waited.Seconds() < bulkWaiting*span.Seconds() {
		b.begin(now, l)
		return
	}
	carried, full := b.carried(l, span)
	if carried >= bulkLeast {
		l.path.addRate(now, carried/span.Seconds(), full)
	}
	b.again(now, l)
}

// begin starts a sample on a link that was idle.
func (b *bulkMeter) begin(now time.Time, l *link) {
	b.again(now, l)
	for i := range b.before {
		b.before[i].window = 0 // nothing is in flight
	}
}

// again starts the sample after another one.
func (b *bulkMeter) again(now time.Time, l *link) {
	b.since, b.waited, b.before = now, 0, l.counts(b.before[:0])
}

// count is what a sample reads of a connection. While a writer waits, what is in
// flight is the congestion window.
type count struct {
	connection   *connection
	sent, window float64
	rtt          time.Duration
}

func (l *link) counts(out []count) []count {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.connections {
		s := c.qc.ConnectionStats()
		out = append(out, count{
			connection: c, sent: float64(s.BytesSent) - float64(s.BytesLost), window: float64(s.CongestionWindow), rtt: s.SmoothedRTT,
		})
	}
	return out
}

// carried is what has arrived since the sample began: what was sent and not lost,
// less the growth of what is in flight. full says that congestion control was what
// held it back: a reader at the other end that is slow keeps writers waiting too,
// with a window that is not used.
func (b *bulkMeter) carried(l *link, span time.Duration) (sum float64, full bool) {
	for _, after := range l.counts(nil) {
		i := slices.IndexFunc(b.before, func(c count) bool { return c.connection == after.connection })
		if i < 0 {
			continue
		}
		sent := after.sent - b.before[i].sent
		arrived := sent - min(after.window-b.before[i].window, sent)
		if arrived < bulkLeast/2 {
			continue
		}
		sum += arrived
		full = full || arrived/span.Seconds() >= bulkFull*after.window/max(after.rtt, time.Millisecond).Seconds()
	}
	return sum, full
}

// tellRate tells the peer how fast we send to it, when that has changed.
func (l *link) tellRate(now time.Time) {
	rate := l.path.read().rateOut
	b := &l.bulk
	b.mu.Lock()
	changed := rate != b.told || rate > 0 && now.Sub(b.toldAt) >= retell
	if changed {
		b.told, b.toldAt = rate, now
	}
	b.mu.Unlock()
	if changed && !l.leaving() {
		l.out.sendRate(wire.AppendRate(nil, wire.Rate{BytesPerSecond: rate}))
	}
}

// rateWindow holds the greatest rate of each of the last slots in which there was
// any, so that an idle link keeps what it has shown.
type rateWindow struct {
	slots [rateSlots]float64
	at    [rateSlots]time.Time // when each began
	next  int
	last  time.Time
	of    float64 // the last sample
}

func (w *rateWindow) add(now time.Time, rate float64) {
	current := (w.next + rateSlots - 1) % rateSlots
	if w.at[current].IsZero() || now.Sub(w.at[current]) >= rateSlot {
		current, w.next = w.next, (w.next+1)%rateSlots
		w.slots[current], w.at[current] = 0, now
	}
	w.slots[current] = max(w.slots[current], rate)
	w.last, w.of = now, rate
}

// most is the greatest rate of the time before the last sample; 0 is not known.
func (w *rateWindow) most(now time.Time) uint64 {
	if w.last.IsZero() || now.Sub(w.last) > rateLife {
		return 0
	}
	best := w.of
	for i, at := range w.at {
		if !at.IsZero() && w.last.Sub(at) < rateSlots*rateSlot {
			best = max(best, w.slots[i])
		}
	}
	return uint64(best)
}
