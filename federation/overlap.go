package federation

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// overlaps reports whether some SPIFFE ID is covered by both patterns.
func overlaps(a, b policy.IDPattern) bool {
	ba, wildA := strings.CutSuffix(string(a), "/*")
	bb, wildB := strings.CutSuffix(string(b), "/*")
	switch {
	case wildA && wildB:
		return ba == bb || strings.HasPrefix(ba, bb+"/") || strings.HasPrefix(bb, ba+"/")
	case wildA:
		return strings.HasPrefix(bb, ba+"/")
	case wildB:
		return strings.HasPrefix(ba, bb+"/")
	default:
		return ba == bb
	}
}
