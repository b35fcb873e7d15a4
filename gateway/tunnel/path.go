package tunnel

import (
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// pathMeter measures a link.
type pathMeter struct {
	mu sync.Mutex
	// smoothed and deviation are RFC 9002's estimators (section 5.3), fed by
	// probes: they see what a stream sees, waiting in the peer's process included.
	smoothed, deviation, least time.Duration

	// packets are what QUIC sent and lost on all connections, of about the last
	// ten seconds: right on a busy link, and blind on a quiet one, where a probe
	// timeout replaces every lost packet before it is declared lost. probes are
	// our probes, of about the last half minute: few, but each is accounted for.
	packets, probes losses

	bytesSent, bytesReceived uint64

	// rates are what bulk reached towards the peer; toldRate is what the peer says
	// of the other direction, toldAt when.
	rates    rateWindow
	toldRate uint64
	toldAt   time.Time
}

// losses counts what fades by a factor per housekeeping round.
type losses struct{ sent, lost float64 }

const (
	packetFade = 0.9
	probeFade  = 0.97
)

func (l *losses) add(sent, lost float64) { l.sent, l.lost = l.sent+sent, l.lost+lost }

func (l *losses) fade(by float64) { l.sent, l.lost = l.sent*by, l.lost*by }

// ratio is the share lost; quic-go takes packets back that were only late, so it
// may dip below zero.
func (l *losses) ratio() float64 {
	if l.sent < 1 {
		return 0
	}
	return max(0, min(l.lost/l.sent, 1))
}

// sample takes one measured round trip.
func (m *pathMeter) sample(rtt time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.least == 0 || rtt < m.least {
		m.least = rtt
	}
	if m.smoothed == 0 {
		m.smoothed, m.deviation = rtt, rtt/2
		return
	}
	m.deviation += ((m.smoothed - rtt).Abs() - m.deviation) / 4
	m.smoothed += (rtt - m.smoothed) / 8
}

// addProbes takes how many of our probes were sent and how many arrived.
func (m *pathMeter) addProbes(sent, got uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probes.add(float64(sent), float64(sent)-float64(got))
}

// add takes the growth of one connection's statistics. quic-go's count of lost
// packets goes back when a packet was only late, and also counts congestion
// marks; both are small.
func (m *pathMeter) add(before, after quic.ConnectionStats) (sent, received uint64) {
	sent, received = after.BytesSent-before.BytesSent, after.BytesReceived-before.BytesReceived
	m.mu.Lock()
	defer m.mu.Unlock()
	m.packets.add(float64(after.PacketsSent-before.PacketsSent), float64(after.PacketsLost)-float64(before.PacketsLost))
	m.bytesSent += sent
	m.bytesReceived += received
	return sent, received
}

// fadeOut is called once per housekeeping round.
func (m *pathMeter) fadeOut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.packets.fade(packetFade)
	m.probes.fade(probeFade)
}

// pathStats is a reading of a pathMeter.
type pathStats struct {
	rtt, least, jitter       time.Duration
	loss                     float64
	bytesSent, bytesReceived uint64
	rateOut, rateIn          uint64
}

func (m *pathMeter) read() pathStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	in := m.toldRate
	if now.Sub(m.toldAt) > rateLife {
		in = 0
	}
	return pathStats{
		rateOut: m.rates.most(now), rateIn: in,
		rtt: m.smoothed, least: m.least, jitter: m.deviation,
		loss:      max(m.packets.ratio(), m.probes.ratio()),
		bytesSent: m.bytesSent, bytesReceived: m.bytesReceived,
	}
}

// delay is the smoothed round trip, 0 until measured.
func (m *pathMeter) delay() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.smoothed
}

// addRate takes what bulk reached towards the peer.
// full: not less than the link carries; else it may carry more, so that it counts
// only where it says more than is known.
func (m *pathMeter) addRate(now time.Time, bytesPerSecond float64, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.rates.most(now); full || known > 0 && bytesPerSecond > float64(known) {
		m.rates.add(now, bytesPerSecond)
	}
}

// told takes what the peer says of its own sending.
func (m *pathMeter) told(bytesPerSecond uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.toldRate, m.toldAt = bytesPerSecond, time.Now()
}
