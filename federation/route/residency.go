package route

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// resides reports whether a policy lets calls go to the candidate's place. It is asked
// before everything else, so that no panic, pin, retry, probation or ramp leads out.
func resides(r *policy.Residency, c *candidate) bool {
	if r == nil {
		return true
	}
	l := c.locality
	return slices.Contains(r.Clusters, c.target.Cluster) ||
		l.Cloud != "" && slices.Contains(r.Clouds, l.Cloud) ||
		l.Region != "" && slices.Contains(r.Regions, l.WithZone("").String())
}

// placeOf names a candidate's place for people.
func placeOf(c *candidate) string {
	if where := c.locality.WithZone("").String(); where != "" {
		return where
	}
	return string(c.target.Cluster) + ", whose place is not known"
}

// held reports whether residency alone keeps the call from somebody who could take
// it.
func (p *portPlan) held(rec *Record) bool {
	return !rec.local && slices.ContainsFunc(p.ruled, func(x exclusion) bool {
		return x.reason == PolicyResidency && (x.able || x.cluster == rec.request.Pin)
	})
}
