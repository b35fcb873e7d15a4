package discovery

import (
	"log/slog"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// rangeFilter leaves endpoints out whose address the source may not publish. It
// looks at changed services only, and shares the others with the snapshot before.
type rangeFilter struct {
	ranges Ranges
	log    *slog.Logger
	// raw is what came in last, clean what went out.
	raw, clean *catalog.Snapshot
	refused    map[catalog.ServiceName]map[Refusal]int
}

func newRangeFilter(r Ranges, log *slog.Logger) *rangeFilter {
	return &rangeFilter{ranges: r, log: log, refused: map[catalog.ServiceName]map[Refusal]int{}}
}

// apply returns s without what is refused, and without marks that only the
// guard sets.
func (f *rangeFilter) apply(s *catalog.Snapshot) (*catalog.Snapshot, error) {
	if f.raw == nil {
		empty, err := catalog.NewSnapshot(s.Source(), nil)
		if err != nil {
			return nil, err
		}
		f.raw, f.clean = empty, empty
	}
	d := catalog.Diff(f.raw, s)
	var upserts []*catalog.Service
	taken := d.Removes // as the source has them, or lacks them
	refused := make([]map[Refusal]int, len(d.Upserts))
	for i, svc := range d.Upserts {
		var allowed *catalog.Service
		if allowed, refused[i] = f.service(svc); allowed == svc {
			taken = append(taken, svc.Name)
		} else {
			upserts = append(upserts, allowed)
		}
	}
	clean, err := f.clean.Take(s, taken, upserts)
	if err != nil {
		return nil, err
	}
	for i, svc := range d.Upserts {
		f.note(svc.Name, refused[i])
	}
	for _, name := range d.Removes {
		delete(f.refused, name)
	}
	f.raw, f.clean = s, clean
	return clean, nil
}

func (f *rangeFilter) service(svc *catalog.Service) (*catalog.Service, map[Refusal]int) {
	var refused map[Refusal]int
	touched := false
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		touched = touched || e.Quarantined
		if reason := f.ranges.Check(e.Address.Addr()); reason != None {
			if refused == nil {
				refused = map[Refusal]int{}
			}
			refused[reason]++
		}
	}
	if refused == nil && !touched {
		return svc, nil
	}
	c := svc.Clone()
	c.Endpoints = c.Endpoints[:0]
	for _, e := range svc.Endpoints {
		if f.ranges.Check(e.Address.Addr()) == None {
			e.Quarantined = false
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	return c, refused
}

// stored returns a snapshot of an earlier process without what is refused now:
// the ranges may have become narrower. The guard's marks stay.
func (f *rangeFilter) stored(s *catalog.Snapshot) (*catalog.Snapshot, error) {
	var upserts []*catalog.Service
	for svc := range s.All() {
		refused := func(e catalog.Endpoint) bool { return f.ranges.Check(e.Address.Addr()) != None }
		if slices.ContainsFunc(svc.Endpoints, refused) {
			c := svc.Clone()
			c.Endpoints = slices.DeleteFunc(c.Endpoints, refused)
			upserts = append(upserts, c)
		}
	}
	return s.With(upserts, nil)
}

// note keeps the counts and logs what is new.
func (f *rangeFilter) note(name catalog.ServiceName, refused map[Refusal]int) {
	before := f.refused[name]
	for reason, n := range refused {
		if before[reason] != n {
			f.log.Warn("refused endpoints whose address the source may not publish", "service", name.String(), "reason", string(reason), "count", n)
		}
	}
	if refused == nil {
		delete(f.refused, name)
		return
	}
	f.refused[name] = refused
}

// counts sums by reason; nil where nothing is refused.
func (f *rangeFilter) counts() map[Refusal]int {
	var sum map[Refusal]int
	for _, refused := range f.refused {
		for reason, n := range refused {
			if sum == nil {
				sum = map[Refusal]int{}
			}
			sum[reason] += n
		}
	}
	return sum
}
