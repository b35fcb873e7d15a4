package route

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// The bounds of one Sighting. What a caller chooses (its path) is cut to them, what
// comes from elsewhere is refused beyond them.
const (
	// MaxSightingPath is how much of a path is kept; longer ones are kept as a prefix.
	MaxSightingPath = 128
	// sightingSegments is how many segments of a path are kept: a gRPC method has
	// two, and identifiers of things stand behind the first two of most others.
	sightingSegments = 2
	maxSightingWord  = 64
	// MaxReportedSightings bounds those of one report: some 150 kB, every few seconds.
	MaxReportedSightings = 512
)

// SightingKey is who was seen to call what, and how it was judged.
type SightingKey struct {
	Service catalog.ServiceName `json:"service"`
	Caller  string              `json:"caller,omitempty"`
	// Peer is the cluster whose gateway spoke for the caller; "" for one of the own
	// cluster.
	Peer catalog.ClusterName `json:"peer,omitempty"`
	// Method and Path are those of requests; "" of connections that show none. With
	// Prefix, Path is only how the paths begin.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Prefix bool   `json:"prefix,omitempty"`
	// Allowed, Reason and Rule are the verdict.
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	Rule    string `json:"rule,omitempty"`
}

// Sighting is a key with how often it was seen, and when last.
type Sighting struct {
	SightingKey
	Count    uint64    `json:"count"`
	LastSeen time.Time `json:"last_seen"`
}

// SightingOf makes the key of a call that was judged.
func SightingOf(peer catalog.ClusterName, ask *Ask, v Verdict) SightingKey {
	k := SightingKey{Service: ask.Service, Caller: ask.Caller, Peer: peer, Allowed: v.Allowed, Reason: v.Reason, Rule: v.Rule}
	if ask.HTTP != nil {
		k.Method = ask.HTTP.Method
		if len(k.Method) > maxSightingWord {
			k.Method = "other"
		}
		k.Path, k.Prefix = boundPath(ask.HTTP.Path, sightingSegments)
	}
	return k
}

// boundPath keeps the first segments of a path: "/a/b/c" becomes "/a/b/".
func boundPath(path string, segments int) (string, bool) {
	end := 0
	for n := 0; ; n++ {
		i := strings.IndexByte(path[min(end+1, len(path)):], '/')
		if i < 0 {
			if len(path) <= MaxSightingPath {
				return path, false
			}
			break
		}
		if end+1+i >= MaxSightingPath || n == segments {
			break
		}
		end += 1 + i
		if n+1 == segments && end+1 < len(path) {
			break // more follows the last one that is kept
		}
	}
	return path[:end+1], true
}

// valid reports whether a sighting that was reported is within the bounds.
func (s *Sighting) valid() bool {
	if y := s.LastSeen.Year(); y <= 1970 || y > 2200 {
		return false // beyond what is counted in nanoseconds
	}
	return !s.Service.IsZero() && len(s.Caller) <= policy.MaxIDLen && len(s.Peer) <= maxSightingWord && len(s.Method) <= maxSightingWord &&
		len(s.Path) <= MaxSightingPath+1 && len(s.Reason) <= maxSightingWord && len(s.Rule) <= maxSightingWord
}
