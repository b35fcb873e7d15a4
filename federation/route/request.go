package route

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Request is what one decision depends on besides the plan.
type Request struct {
	Service catalog.ServiceName
	// Port is a port name; "" is the only or default port.
	Port string
	// Pin restricts the choice to one cluster (name.namespace.CLUSTER.mesh).
	Pin catalog.ClusterName
	// Subset is the name of a part of the traffic policy's that the call asks for, by a
	// header field; a name that it does not have counts as none. Of a call from a peer
	// it is the canonical text of labels (catalog.SubsetOf).
	Subset string
	// Hash is that of the call's sticky key (HashKey), 0 where it has none.
	Hash uint64
	// Tried holds the candidates that this request already failed on.
	Tried Tried
	// Again says that it is not the first attempt, whether or not that was made.
	Again bool
	// Priority says how early the call is refused where not all fit.
	Priority Priority
	// Bytes is the size of the request, where it is known before it is sent; 0 takes
	// the mean of the service's requests.
	Bytes int64
	// Random drives every draw of this decision.
	Random uint64
	// NowNanos is the monotonic-free Unix time in nanoseconds, for EWMA decay.
	NowNanos int64
}

// MaxTried bounds the attempts of one request.
const MaxTried = 8

// Tried is a small set of targets and endpoints. A copy is a value of its own, and one
// word: most requests try once, and each keeps its set with its record.
type Tried struct{ last *triedItem }

// triedItem is never changed once it is in a set.
type triedItem struct {
	before   *triedItem
	n        int // with those before
	cluster  catalog.ClusterName
	endpoint string
}

// Add records that cluster (and, for the own cluster, the endpoint's ID) was
// tried; beyond MaxTried it does nothing.
func (t *Tried) Add(cluster catalog.ClusterName, endpoint string) {
	if n := t.Len(); n < MaxTried {
		t.last = &triedItem{before: t.last, n: n + 1, cluster: cluster, endpoint: endpoint}
	}
}

// Len is how many attempts were made.
func (t *Tried) Len() int {
	if t.last == nil {
		return 0
	}
	return t.last.n
}

func (t *Tried) has(cluster catalog.ClusterName, endpoint string) bool {
	for x := t.last; x != nil; x = x.before {
		if x.cluster == cluster && x.endpoint == endpoint {
			return true
		}
	}
	return false
}

// texts are the attempts in their order.
func (t *Tried) texts() []string {
	if t.last == nil {
		return nil
	}
	out := make([]string, t.Len())
	for x := t.last; x != nil; x = x.before {
		out[x.n-1] = x.String()
	}
	return out
}

// String is CLUSTER, or CLUSTER/ENDPOINT of the own cluster.
func (x *triedItem) String() string {
	if x.endpoint == "" {
		return string(x.cluster)
	}
	return string(x.cluster) + "/" + x.endpoint
}
