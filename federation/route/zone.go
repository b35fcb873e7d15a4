package route

import (
	"cmp"
	"time"
)

// ZoneKey is a service's port in one zone of a cluster.
type ZoneKey struct {
	Target
	Zone string `json:"zone"`
}

// ZoneEvidence is what is known of a target in one of its zones.
//
// Evidence by zone is kept where endpoints are picked, at the cluster's own gateways:
// they know the zone of each outcome, for their callers' calls and for peers'. A peer
// cannot choose a zone behind the far gateway, so that what it needs is what is left:
// its counts of ready endpoints leave out a zone that is ejected, and its name comes
// with them (Out), since a zone that is out is no reason to call the cluster near.
type ZoneEvidence struct {
	// EjectedUntil and Reason are as for a target; of the own cluster.
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
	Reason       string    `json:"reason,omitempty"`
	// Out: a peer's gateways say that they leave it out.
	Out bool `json:"out,omitempty"`
}

// ZoneReport is the evidence of one zone.
type ZoneReport struct {
	ZoneKey
	ZoneEvidence
}

// Compare orders zones by target, then name.
func (k ZoneKey) Compare(o ZoneKey) int {
	return cmp.Or(k.Target.Compare(o.Target), cmp.Compare(k.Zone, o.Zone))
}

// ejectZone takes an own candidate out while its zone is ejected or on probation, for
// own callers and for peers.
func (c *compiler) ejectZone(cand *candidate) {
	ze, known := c.evidence.Zones[ZoneKey{cand.target, cand.zone}]
	if !known || cand.reason != "" || cand.quarantined {
		return
	}
	c.eject(cand, TargetEvidence{EjectedUntil: ze.EjectedUntil, Reason: ze.Reason})
	if cand.reason != "" {
		cand.probing = obtain(c.live.zones, zoneTarget{cand.target, cand.endpoints.locality})
	}
}

// zoneOut reports whether a peer's gateways leave out a zone of theirs.
func (c *compiler) zoneOut(t Target, zone string) bool {
	return c.evidence.Zones[ZoneKey{t, zone}].Out
}

// ZonesOut yields the zones of the own cluster that are ejected or on probation.
func (e *Evidence) ZonesOut(yield func(ZoneKey) bool) {
	for k, z := range e.Zones {
		if !z.EjectedUntil.IsZero() && !yield(k) {
			return
		}
	}
}
