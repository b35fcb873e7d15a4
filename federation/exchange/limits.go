package exchange

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Format is the version of the wire format.
const Format = 1

// The paths that an Exporter serves.
const (
	Prefix      = "/exchange/v1/"
	CatalogPath = Prefix + "catalog"
	ExplainPath = Prefix + "explain"
)

const (
	// HeartbeatEvery is how often a silent stream shows that it lives.
	HeartbeatEvery = 5 * time.Second
	// Lease is how long a peer's control plane counts as alive without a word.
	Lease = 30 * time.Second
	// silence ends a stream that has missed three heartbeats.
	silence = 3 * HeartbeatEvery
	// maxBatchTime bounds one batch: 16 MiB need 0.5 Mbit/s.
	maxBatchTime = 5 * time.Minute
	// MaxEpoch leaves room above: a peer that claims more is refused rather than
	// followed to where the next epoch would overflow.
	MaxEpoch = 1 << 62
)

// Limits bound what one origin may make its listeners hold and do.
type Limits struct {
	// Services, Rows and Endpoints bound the origin's whole catalog; Endpoints
	// are those that its rows count.
	Services, Rows, Endpoints int
	// Bytes bounds the JSON values of all items, Line one line of the stream.
	Bytes, Line int
	// Gateways bounds the roster, Conflicts the list of conflicts.
	Gateways, Conflicts int
	// UpdatesPerSecond and UpdateBurst are a token bucket; each batch, each
	// heartbeat and each line outside of a batch takes a token.
	UpdatesPerSecond, UpdateBurst float64
}

// DefaultLimits are the quotas of one origin. An exporter holds itself to them.
func DefaultLimits() Limits {
	return Limits{
		Services: 10_000, Rows: 50_000, Endpoints: catalog.MaxEndpoints,
		Bytes: 16 << 20, Line: 1 << 20,
		Gateways: 64, Conflicts: 1_000,
		UpdatesPerSecond: 10, UpdateBurst: 20,
	}
}

// batchGap keeps an exporter well below UpdatesPerSecond: changes that come
// faster travel together. It is the least time between two batches of one stream,
// whatever the pace at which the owner sets states.
const batchGap = 150 * time.Millisecond

// bucket is a token bucket whose clock is passed in.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

func newBucket(rate, burst float64) bucket { return bucket{rate: rate, burst: burst, tokens: burst} }

// take returns false where there is no token. A clock that goes back gives
// nothing and takes nothing away.
func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.at); d > 0 {
		if !b.at.IsZero() {
			b.tokens = min(b.burst, b.tokens+b.rate*d.Seconds())
		}
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
