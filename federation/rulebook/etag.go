package rulebook

import (
	"fmt"
	"strconv"
	"strings"
)

// ETagOf is the strong entity tag of a stored rule.
func ETagOf(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

// Precondition is what a request asks of the rule that it changes (RFC 9110,
// section 13.1.1). The zero value asks nothing.
type Precondition struct {
	any  bool
	tags []string
}

// maxTags bounds an If-Match: nobody has read more versions of one rule.
const maxTags = 16

// ParseIfMatch reads an If-Match header: "*" or a list of entity tags. An empty
// one is the zero Precondition.
func ParseIfMatch(header string) (Precondition, error) {
	header = strings.TrimSpace(header)
	if header == "" {
		return Precondition{}, nil
	}
	if header == "*" {
		return Precondition{any: true}, nil
	}
	var p Precondition
	for part := range strings.SplitSeq(header, ",") {
		tag := strings.TrimSpace(part)
		weak := strings.HasPrefix(tag, "W/")
		body := strings.TrimPrefix(tag, "W/")
		if len(body) < 2 || body[0] != '"' || body[len(body)-1] != '"' || strings.Contains(body[1:len(body)-1], `"`) {
			return Precondition{}, fmt.Errorf("entity tag %s: must be quoted, as in If-Match: \"17\"", part)
		}
		if len(p.tags) == maxTags {
			return Precondition{}, fmt.Errorf("has more than %d entity tags", maxTags)
		}
		if !weak { // a weak tag never matches where bytes are replaced
			p.tags = append(p.tags, tag)
		} else {
			p.tags = append(p.tags, "")
		}
	}
	return p, nil
}

// IsSet reports whether anything is asked.
func (p Precondition) IsSet() bool { return p.any || len(p.tags) > 0 }

// Match reports whether a rule with that tag passes.
func (p Precondition) Match(etag string) bool {
	if !p.IsSet() || p.any {
		return true
	}
	for _, t := range p.tags {
		if t != "" && t == etag {
			return true
		}
	}
	return false
}
