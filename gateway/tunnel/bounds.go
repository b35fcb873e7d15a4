package tunnel

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
)

// Bounds and times. Each says why it is what it is; those of Options are the
// defaults of its fields.
const (
	// defaultConnections and defaultHTTPConnections: one Reno window is the wrong
	// unit for a path (one loss slows everything), two are a start that costs
	// little on an idle link.
	defaultConnections     = 2
	defaultHTTPConnections = 2
	// maxConnections of each sort: the numbers of connections on the wire are
	// grouped by eight.
	maxConnections = 8

	// defaultProbeInterval finds a dead link within a second and costs ten small
	// packets per second and link.
	defaultProbeInterval = liveness.Interval
	// minProbeInterval keeps a slip of a unit from flooding a path.
	minProbeInterval = 10 * time.Millisecond

	// defaultStreamsPerLink and defaultStreams bound open inbound streams and
	// requests: about 30 KiB each, so at most 1.5 GB when all are busy.
	defaultStreamsPerLink = 10_000
	defaultStreams        = 50_000

	// maxPeers and maxGateways bound what a roster makes us keep: each gateway
	// costs a goroutine, a link and packets every 100 ms.
	maxPeers     = 256
	maxGateways  = 64
	maxAddresses = 8
	// maxLinksPerGateway bounds the links that one remote gateway may open to us:
	// one, its successor while streams finish, and one each that a crashed process
	// left behind, or that one which was upgraded in place still finishes.
	maxLinksPerGateway = generation.Slots + 4
	// maxInbound bounds accepted connections on top of the window budget.
	maxInbound = 1024
	// maxHandshakes bounds inbound handshakes in progress: each costs a signature
	// and up to 16 KiB before the peer is known.
	maxHandshakes = 1000
	// retryRate is how many connection attempts per second are taken without
	// proof of address; more must do a Retry round trip first.
	retryRate = 100

	// maxPool bounds the streams of one direction of a TLS link: each has a connection
	// and a file descriptor of its own at both ends. poolSpare to maxPoolSpare are kept
	// ahead of what is used, a quarter of that, and poolDials handshakes run at once.
	maxPool      = 1000
	poolSpare    = 2
	maxPoolSpare = 64
	poolDials    = 16
	// poolIdle is how long a spare one is kept, and poolWait how long a stream waits
	// for a connection: a handshake and its repetition.
	poolIdle = 30 * time.Second
	poolWait = 3 * time.Second
	// maxLaneInbound bounds accepted connections of TLS over all peers.
	maxLaneInbound = 8192

	// handshakeTimeout bounds dialing: resolving, QUIC handshake and hello.
	handshakeTimeout = 5 * time.Second
	// idleTimeout ends connections to which nobody speaks; keepAlive keeps those
	// that are not probed alive.
	idleTimeout = 5 * time.Second
	keepAlive   = time.Second
	// headerTimeout is how long a stream's header may take to arrive after the
	// stream: it is in one packet, or a few, sent together.
	headerTimeout = 2 * time.Second
	// upTimeout is how long a new link waits for its first HTTP connection before
	// it is used for streams alone, and how long requests do on a link that the peer
	// has just dialed.
	upTimeout = time.Second

	// kickPause is the least time between two attempts that a hint from outside
	// (a peer that dialed us) may cause.
	kickPause = time.Second

	// housekeeping is the rhythm of statistics and of closing drained links.
	housekeeping = time.Second
	// callbackPause is the time between two requests to be called back.
	callbackPause = 5 * time.Second
	// reaskPause is the time between two wishes for a proof that was refused: the
	// peer's clock or our bundles may have been behind.
	reaskPause = 5 * time.Second
	// proofGrace is how long a link whose authority has left is not cut while its
	// other end may prove the certificate that was refused before: a round trip of
	// the WAN, and well within the second in which a revocation cuts.
	proofGrace = 500 * time.Millisecond
	// renewMin and renewShare: a link is renewed after this share of the time
	// that its certificates have left (minus up to renewSpread of it, so that
	// links do not move together), and not in a tighter loop than renewMin.
	renewMin    = time.Second
	renewShare  = 0.8
	renewSpread = 0.1

	// lingerMin and lingerMax bound the wait between the end of the last stream
	// and the end of its connection: the last bytes must be acknowledged, or the
	// reader sees an error instead of EOF. It is four round trips in between.
	lingerMin = 100 * time.Millisecond
	lingerMax = time.Second

	// controlRate and controlBurst bound inbound control frames per second and
	// link: a report per second, with its detail, and little else. What comes faster waits.
	controlRate  = 40
	controlBurst = 50

	// maxHTTPHeader bounds request and response headers and trailers.
	maxHTTPHeader = 64 << 10

	// Receive windows. The connection's is 16 of its streams', so that up to 15
	// streams whose readers stall do not stop the others.
	windowsPerConnection = 16
	maxStreamWindow      = 16 << 20
	maxInitialWindow     = 16 << 20
	minInitialWindow     = 1 << 20
	// initialShare: this many connections may be open before initial windows
	// alone use up the budget.
	initialShare = 256
	// minBudget keeps eight connections possible.
	minBudget = 16 << 20

	// tokenOrigins and tokensPerOrigin bound the address tokens kept, which save
	// the Retry round trip when a peer under load asks for proof of address.
	tokenOrigins    = 512
	tokensPerOrigin = 4
)
