package cli

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// limitsText says what a call has to pass, in one line.
func limitsText(l *policy.Limits) string {
	var parts []string
	for i := range l.Rates {
		r := l.Rates[i].Filled()
		text := fmt.Sprintf("rate %s %d per %s", r.Name, r.Requests, r.Interval())
		if len(r.Per) > 0 {
			keys := make([]string, len(r.Per))
			for j, k := range r.Per {
				keys[j] = string(k)
			}
			text += " for each " + strings.Join(keys, " and ")
		}
		if len(r.Callers)+len(r.Clusters)+len(r.HTTP) > 0 {
			text += ", of some calls"
		}
		parts = append(parts, text)
	}
	if c := l.Concurrency; c != nil {
		filled := c.Filled()
		if c.Adaptive {
			parts = append(parts, fmt.Sprintf("concurrency found between %d and %d", filled.Floor, filled.Max))
		} else {
			parts = append(parts, fmt.Sprintf("concurrency %d", filled.Max))
		}
	}
	if b := l.Breaker; b != nil {
		for _, bound := range []struct {
			name string
			most uint32
		}{{"connections", b.MaxConnections}, {"requests", b.MaxRequests}, {"pending", b.MaxPending}} {
			if bound.most > 0 {
				parts = append(parts, fmt.Sprintf("breaker at %d %s", bound.most, bound.name))
			}
		}
	}
	return strings.Join(parts, "; ")
}
