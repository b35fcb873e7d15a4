package tunnel

import "time"

// LinkState is the state of a link. The vocabulary is closed.
type LinkState string

// The states.
const (
	// StateConnecting: being dialed, or waiting to be dialed again.
	StateConnecting LinkState = "connecting"
	// StateUp: takes new streams.
	StateUp LinkState = "up"
	// StateDraining: finishes its streams and takes no new ones.
	StateDraining LinkState = "draining"
	// StateDown: cannot be reached; see Reason.
	StateDown LinkState = "down"
)

// linkStates lists the closed set.
var linkStates = [...]LinkState{StateConnecting, StateUp, StateDraining, StateDown}

// LinkInfo is one link, or one gateway that should have a link, as it is now.
type LinkInfo struct {
	Cluster string
	// Gateway is empty until a bootstrap address has answered.
	Gateway string
	// Address is the remote address in use (or tried last).
	Address string
	// Lane is what the link runs on.
	Lane Lane
	// Dialed is true where this end opened the link.
	Dialed bool
	State  LinkState
	// Reason says why the link is not up: a word of wire.Status or
	// identity.Reason, or "dial", "timeout", "restarted", "rejected" (the peer
	// did not accept our identity), "busy", "transport", "quiet" (a link of TLS that has
	// not been heard since QUIC died beside it); empty when up.
	Reason string
	// Since is when State was entered.
	Since time.Time
	// RTT is smoothed over the probes; MinRTT is the least since the link came
	// up; Jitter is the mean deviation. Zero until measured.
	RTT, MinRTT, Jitter time.Duration
	// Loss is the share of packets lost lately, 0 to 1.
	Loss float64
	// BytesSent and BytesReceived count UDP or TCP payload over the life of the link.
	BytesSent, BytesReceived uint64
	// BandwidthOut and BandwidthIn are how many bytes a second bulk has moved on the
	// link: towards the peer as measured here, and from it as the peer has told. 0 is
	// not known: nothing has filled the link lately, or the peer is an older one.
	BandwidthOut, BandwidthIn uint64
	// Streams counts open streams and requests, both directions.
	Streams int
	// Connections counts its connections.
	Connections int
	// Expires is when the link closes unless an end proves a newer certificate on
	// it: the earliest end of both ends' certificates. Zero without a link.
	Expires time.Time
	// PeerNotAfter, PeerSerial (hexadecimal) and PeerAuthority (the authority key
	// ID, in hexadecimal) are of the certificate that the peer has proven last,
	// in the handshake or since. Zero without a link.
	PeerNotAfter              time.Time
	PeerSerial, PeerAuthority string
}
