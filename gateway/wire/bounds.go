package wire

import "time"

// Bounds. Everything from the wire is checked against them before memory is
// reserved for it.
const (
	// MaxHeader bounds an encoded stream header after its two prefix numbers.
	MaxHeader = 8 << 10
	// MaxField bounds one field: the limit of a SPIFFE ID, the longest there is.
	MaxField = 2048
	// MaxReply bounds an encoded reply after its two prefix numbers.
	MaxReply = 1 << 10
	// MaxMessage bounds the message of a reply: a sentence, not a log.
	MaxMessage = 512
	// MaxFrame bounds the body of a control frame: a report that is full of rows
	// of the longest names and counts, and its count.
	MaxFrame = 2 + MaxReportServices*(2+maxServiceName+1+MaxName+3*8)
	// MaxReportServices bounds the rows of a report: the quota of services that
	// an origin may export.
	MaxReportServices = 5000
	// MaxProof bounds the body of a proof: the bindings, the chain, the signature,
	// the counter, and a type and a length before each.
	MaxProof = MaxBindings*BindingSize + MaxChain + MaxSignature + 8 + 4*5
	// MaxBindings is the number of connections that a link may have.
	MaxBindings = MaxConnection + 1
	// MaxChain bounds the certificates of a proof: no longer chain gets through a
	// QUIC handshake, whose messages quic-go bounds by the same number.
	MaxChain = 16 << 10
	// MaxSignature is the length of a signature by an RSA key of 8,192 bits.
	MaxSignature = 1 << 10
	// MaxName bounds a cluster's, gateway's or port's name: a DNS label.
	MaxName = 63
	// MaxDeadline bounds a deadline: who has a day left has none.
	MaxDeadline = 24 * time.Hour
	// MaxRetryAfter bounds what a peer can make us wait.
	MaxRetryAfter = 10 * time.Minute
	// MaxProbe bounds a probe datagram; probes must never need a second packet.
	MaxProbe = 64
)
