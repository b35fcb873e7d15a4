package wire

import "time"

// Probe is a datagram that both ends of a link send at a fixed interval on
// connection 0. It says "I am here" and "I hear you": a one-way cut is seen by
// the deaf end, since nothing arrives, and by the other, since Heard stands still
// and Quiet grows.
type Probe struct {
	// Seq numbers the sender's probes from 1.
	Seq uint64
	// Heard is the highest Seq received from the other end; 0 before the first.
	Heard uint64
	// Got counts the probes received from the other end: Heard less Got are lost
	// on the way here. QUIC's own count of lost packets does not see those that a
	// probe timeout replaced, which on a quiet link is all of them.
	Got uint64
	// Sent is the sender's clock when this was sent; Echo is Sent of the probe
	// that Heard names, and Delay the time from its arrival to this sending: the
	// other end's round trip is now - Echo - Delay, without comparing clocks.
	// Whole microseconds on the wire; clocks start with the link.
	Sent, Echo, Delay time.Duration
	// Quiet is the time since the sender last received any packet on the
	// connection, in whole milliseconds on the wire.
	Quiet time.Duration
}

// datagramProbe is the kind of datagram, its first number.
const datagramProbe = 1

// maxProbeTime bounds the clocks, so that sums of them cannot overflow.
const maxProbeTime = 100 * 365 * 24 * time.Hour

// AppendProbe appends a probe datagram. Negative times count as zero.
func AppendProbe(b []byte, p *Probe) []byte {
	b = appendVarint(b, datagramProbe)
	b = appendVarint(b, min(p.Seq, maxVarint))
	b = appendVarint(b, min(p.Heard, maxVarint))
	b = appendVarint(b, min(p.Got, maxVarint))
	for _, d := range [...]time.Duration{p.Sent, p.Echo, p.Delay} {
		b = appendVarint(b, uint64(max(0, min(d, maxProbeTime))/time.Microsecond))
	}
	return appendVarint(b, uint64(max(0, min(p.Quiet, maxProbeTime))/time.Millisecond))
}

// ParseProbe parses a datagram. isProbe is false, without error, for kinds that
// this version does not know.
func ParseProbe(b []byte, p *Probe) (isProbe bool, err error) {
	kind, b, err := parseVarint(b)
	if err != nil {
		return false, err
	}
	if kind != datagramProbe {
		return false, nil
	}
	if len(b) > MaxProbe {
		return true, malformed("probe", "is longer than 64 bytes")
	}
	var v [7]uint64
	for i := range v {
		if v[i], b, err = parseVarint(b); err != nil {
			return true, err
		}
	}
	if len(b) != 0 {
		return true, malformed("probe", "has bytes after its last number")
	}
	*p = Probe{Seq: v[0], Heard: v[1], Got: v[2]}
	if p.Seq == 0 {
		return true, malformed("probe", "has no sequence number")
	}
	for i, d := range [...]*time.Duration{&p.Sent, &p.Echo, &p.Delay} {
		if v[3+i] > uint64(maxProbeTime/time.Microsecond) {
			return true, malformed("probe", "has a time above its limit")
		}
		*d = time.Duration(v[3+i]) * time.Microsecond
	}
	if v[6] > uint64(maxProbeTime/time.Millisecond) {
		return true, malformed("probe", "has a time above its limit")
	}
	p.Quiet = time.Duration(v[6]) * time.Millisecond
	return true, nil
}
