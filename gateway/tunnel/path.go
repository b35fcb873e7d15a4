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

	// sent and lost count probes, and the packets of all connections as QUIC
	// counts them. They fade by fade per housekeeping round, so that their ratio
	// is the loss of about the last ten seconds.
	sent, lost float64

	bytesSent, bytesReceived uint64
}

const fade = 0.9

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
	m.sent += float64(sent)
	m.lost += float64(sent) - float64(got)
}

// add takes the growth of one connection's statistics. quic-go's count of lost
// packets goes back when a packet was only late, and also counts congestion
// marks; both are small.
func (m *pathMeter) add(before, after quic.ConnectionStats) (sent, received uint64) {
	sent, received = after.BytesSent-before.BytesSent, after.BytesReceived-before.BytesReceived
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent += float64(after.PacketsSent - before.PacketsSent)
	m.lost += float64(after.PacketsLost) - float64(before.PacketsLost)
	m.bytesSent += sent
	m.bytesReceived += received
	return sent, received
}

// fadeOut is called once per housekeeping round.
func (m *pathMeter) fadeOut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent *= fade
	m.lost *= fade
}

// pathStats is a reading of a pathMeter.
type pathStats struct {
	rtt, least, jitter       time.Duration
	loss                     float64
	bytesSent, bytesReceived uint64
}

func (m *pathMeter) read() pathStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := pathStats{
		rtt: m.smoothed, least: m.least, jitter: m.deviation,
		bytesSent: m.bytesSent, bytesReceived: m.bytesReceived,
	}
	if m.sent >= 1 {
		s.loss = max(0, min(m.lost/m.sent, 1))
	}
	return s
}

// delay is the smoothed round trip, 0 until measured.
func (m *pathMeter) delay() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.smoothed
}
