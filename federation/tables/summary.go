package tables

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Summarizer makes summaries and remembers them, so that a summary whose
// service and evidence are unchanged is the same pointer. The zero value is
// ready. It is for one goroutine at a time.
type Summarizer struct {
	made map[madeKey]made
}

type madeKey struct {
	service catalog.ServiceName
	labels  string
}

type made struct {
	local   *catalog.Service // which peers' offers do not change
	down    []instance
	summary *catalog.Summary
}

// Summaries are those of the services that the policy exports to peer, by name.
//
// An endpoint is ready where its source leaves it in service and the data path
// does not say otherwise: what a source calls critical is out whatever answers,
// and what it calls passing is out if no gateway can use it. Endpoints that the
// guard holds in quarantine are counted as the others, or a mass withdrawal
// would reach the peers that the guard keeps it from.
func (z *Summarizer) Summaries(v *merge.View, r *Readiness, ix *policy.Index, peer catalog.ClusterName) []*catalog.Summary {
	z.sweep(v)
	var out []*catalog.Summary
	for s := range v.All() {
		if summary := z.one(s, r, ix, peer); summary != nil {
			out = append(out, summary)
		}
	}
	return out
}

// one is the summary of a service, nil where it is not exported to peer.
func (z *Summarizer) one(s *merge.Service, r *Readiness, ix *policy.Index, peer catalog.ClusterName) *catalog.Summary {
	if s.Local == nil {
		return nil
	}
	export, ok := ix.ExportTo(s.Name, peer)
	if !ok {
		return nil
	}
	down := r.of(s.Name)
	key := madeKey{service: s.Name, labels: strings.Join(export.SubsetLabels, ",")}
	have, ok := z.made[key]
	if !ok || have.local != s.Local || !slices.Equal(have.down, down) {
		have = made{local: s.Local, down: down, summary: summarize(s.Local, down, export.SubsetLabels, have.summary)}
		z.made[key] = have
	}
	return have.summary
}

// sweep forgets services that are gone, once they are the larger part.
func (z *Summarizer) sweep(v *merge.View) {
	if z.made == nil {
		z.made = make(map[madeKey]made)
	}
	const slack = 1024
	if len(z.made) <= 2*v.Len()+slack {
		return
	}
	for key, m := range z.made {
		if s := v.Get(key.service); s == nil || s.Local != m.local {
			delete(z.made, key)
		}
	}
}

// spread says by what a summary's rows are split: less where the full split
// would exceed the bound of rows.
type spread struct{ subsets, zones bool }

// summarize counts the endpoints of s; it returns earlier where nothing differs.
func summarize(s *catalog.Service, down []instance, labels []string, earlier *catalog.Summary) *catalog.Summary {
	out := &catalog.Summary{Service: s.Name, Ports: s.Ports}
	for _, by := range []spread{{subsets: true, zones: true}, {zones: true}, {}} {
		if rows, fits := count(s, down, labels, by); fits {
			out.Rows = rows
			break
		}
	}
	if earlier != nil && earlier.Equal(*out) {
		return earlier
	}
	return out
}

type rowKey struct{ port, zone, subset string }

func count(s *catalog.Service, down []instance, labels []string, by spread) (rows []catalog.SummaryRow, fits bool) {
	at := make(map[rowKey]int)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		key := rowKey{port: e.Port}
		if by.zones {
			key.zone = e.Locality.Zone
		}
		if by.subsets && len(labels) > 0 {
			key.subset = catalog.SubsetOf(e.Labels, labels)
		}
		row, known := at[key]
		if !known {
			if len(rows) == catalog.MaxSummaryRows {
				return nil, false
			}
			row = len(rows)
			at[key] = row
			rows = append(rows, catalog.SummaryRow{Port: key.port, Zone: key.zone, Subset: key.subset})
		}
		rows[row].Total++
		if e.Health.Usable() && !isDown(down, e) {
			rows[row].Ready++
		}
	}
	slices.SortFunc(rows, catalog.SummaryRow.Compare)
	return rows, true
}
