package federation

import (
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// foreseeCallers adds the callers seen lately that other intentions would judge
// differently.
func (p *plane) foreseeCallers(would *resource.Impact, _, _ []policy.Intention) {
	would.Unknown = append(would.Unknown, "callers: gateways do not report them")
}
