package merge

import "slices"

// renewed is what build makes of the group, of the service of the view before and
// what differs, nil where more than that does. By far the most changes are of the
// endpoints of one side, or of the rows that one peer tells, and leave ports, their
// origins and conflicts as they are: these, and the offers that stay, are shared,
// so that who comes after sees at once that they are the same.
func (s *Service) renewed(g *group, ours *local, sameRemote bool) *Service {
	if !s.ours.alike(ours) {
		return nil
	}
	next := *s
	next.own, next.ours, next.Local = g.own, ours, nil
	if ours != nil {
		next.Local = ours.service
	}
	if sameRemote {
		return &next
	}
	// One offer for each candidate: where a cluster has several, they are in conflict.
	if len(g.remote) != len(s.remote) || len(s.Offers) != len(s.remote) {
		return nil
	}
	next.remote, next.Offers = g.remote, slices.Clone(s.Offers)
	for i := range g.remote {
		was, is := &s.remote[i], &g.remote[i]
		if *was == *is {
			continue
		}
		if was.cluster != is.cluster || was.ordered != is.ordered || was.rule != is.rule ||
			was.summary.Service != is.summary.Service || !slices.Equal(was.summary.Ports, is.summary.Ports) {
			return nil
		}
		next.Offers[i] = is.offer()
	}
	return &next
}

// alike reports whether both own parts differ in endpoints only, and in nothing
// that is told of them beside.
func (l *local) alike(o *local) bool {
	if l == o || l == nil || o == nil {
		return l == o
	}
	return slices.Equal(l.service.Ports, o.service.Ports) && slices.Equal(l.portOwners, o.portOwners) &&
		slices.Equal(l.provenance, o.provenance) && slices.EqualFunc(l.conflicts, o.conflicts, Conflict.Equal)
}
