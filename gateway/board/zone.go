package board

import (
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// outlyingZone ejects a zone of the own cluster of which the calls fail more than those
// of the other zones, and reports whether it did. The zones of endpoints are known here
// and nowhere else: so it is done for peers' calls too.
func (b *Board) outlyingZone(ix *index, k portKey, w *watch, now time.Time) bool {
	zones := ix.zonesOf(k)
	if len(zones) < 2 {
		return false
	}
	all := w.zones.take(now, b.o.Outliers.Window, zones, func(zone string) (sum tally) {
		for i, id := range ix.endpoints[k] {
			if ix.zones[k][i] == zone {
				t := tallyOf(b.live.Endpoint(route.EndpointKey{Service: k.service, Port: k.port, ID: id}))
				sum.calls, sum.failures = sum.calls+t.calls, sum.failures+t.failures
			}
		}
		return sum
	})
	key := func(zone string) route.ZoneKey {
		return route.ZoneKey{Target: route.Target{Service: k.service, Port: k.port, Cluster: b.o.Cluster}, Zone: zone}
	}
	ejected := 0
	for i, zone := range zones {
		if z := b.zones[key(zone)]; z != nil && !z.ejector.Until().IsZero() {
			all[i].Ejected = true
			ejected++
		}
	}
	i, found := b.o.Outliers.Outlier(all)
	if !found || !b.o.Outliers.Room(ejected, len(zones)) || !b.manyFail(ix, k, w, zones[i]) {
		return false
	}
	z := b.zones[key(zones[i])]
	if z == nil {
		z = &targetState{ejector: route.NewEjector(b.o.Ejector)}
		b.zones[key(zones[i])] = z
	}
	if !z.ejector.Eject(now, b.o.Random(), outlying(all[i], b.o.Outliers.Window)) {
		return false
	}
	z.clean = false
	b.log.Warn("zone ejected", "service", k.service.String(), "port", k.port, "zone", zones[i],
		"reason", z.ejector.Reason(), "duration", z.ejector.Until().Sub(now))
	return true
}

// manyFail reports whether most endpoints of a zone that were called fail calls: one
// that is sick among many is no reason to leave the zone.
func (b *Board) manyFail(ix *index, k portKey, w *watch, zone string) bool {
	called, failing := 0, 0
	for i, id := range ix.endpoints[k] {
		if ix.zones[k][i] != zone {
			continue
		}
		now := tallyOf(b.live.Endpoint(route.EndpointKey{Service: k.service, Port: k.port, ID: id}))
		var was tally
		if len(w.endpoints.looks) > 0 {
			was = w.endpoints.looks[0].all[id]
		}
		if now.calls > was.calls {
			called++
			if now.failures > was.failures {
				failing++
			}
		}
	}
	return called > 1 && 2*failing > called
}

// observeZone feeds the outcome of a call to the zone of its endpoint, if that was
// ejected: it decides a probation. b.mu is held.
func (b *Board) observeZone(ix *index, key route.EndpointKey, outcome route.Outcome, now time.Time) bool {
	if len(b.zones) == 0 {
		return false
	}
	zone, known := ix.zoneOf(key)
	k := b.zoneKey(key, zone)
	z := b.zones[k]
	if !known || z == nil || z.ejector.Until().IsZero() {
		return false // failures in a row are the endpoints' business
	}
	changed := z.ejector.Observe(outcome, now, b.o.Random(), true)
	if z.clean = z.ejector.Until().IsZero(); changed && z.clean {
		b.log.Info("zone passed its probation", "service", key.Service.String(), "port", key.Port, "zone", zone)
	}
	return changed
}

// zoneIsClean reports whether a success means nothing to the zone of an endpoint.
// b.mu is held.
func (b *Board) zoneIsClean(key route.EndpointKey) bool {
	zone, known := b.index.Load().zoneOf(key)
	z := b.zones[b.zoneKey(key, zone)]
	return !known || z == nil || z.clean
}

func (b *Board) zoneKey(k route.EndpointKey, zone string) route.ZoneKey {
	return route.ZoneKey{Target: route.Target{Service: k.Service, Port: k.Port, Cluster: b.o.Cluster}, Zone: zone}
}

// zoneEvidence adds what is held against zones. b.mu is held.
func (b *Board) zoneEvidence(e *route.Evidence) {
	for k, z := range b.zones {
		if z.ejector.Until().IsZero() {
			continue
		}
		if e.Zones == nil {
			e.Zones = make(map[route.ZoneKey]route.ZoneEvidence)
		}
		e.Zones[k] = route.ZoneEvidence{EjectedUntil: z.ejector.Until(), Reason: z.ejector.Reason()}
	}
}

// zonesOut are the zones of an own target that are out, as peers are told.
func zonesOut(e *route.Evidence, t route.Target) string {
	if e == nil {
		return ""
	}
	var out []string
	for k := range e.ZonesOut {
		if k.Target == t && k.Zone != "" {
			out = append(out, k.Zone)
		}
	}
	slices.Sort(out)
	all := strings.Join(out, ",")
	for len(all) > wire.MaxZonesOut { // whole names only
		all = all[:strings.LastIndexByte(all, ',')]
	}
	return all
}

// farZones adds the zones that all gateways of a cluster leave out which say anything:
// one that leaves out what others do not may speak of its own way there. b.mu is held.
func (b *Board) farZones(e *route.Evidence, t route.Target, name farService, now time.Time) {
	said, votes := 0, map[string]int(nil)
	for _, d := range b.delays[t.Cluster] {
		if now.Sub(d.at) > reportLife {
			continue
		}
		said++
		for _, zone := range d.out[name] {
			if votes == nil {
				votes = make(map[string]int)
			}
			votes[zone]++
		}
	}
	for zone, n := range votes {
		if n < said {
			continue
		}
		if e.Zones == nil {
			e.Zones = make(map[route.ZoneKey]route.ZoneEvidence)
		}
		e.Zones[route.ZoneKey{Target: t, Zone: zone}] = route.ZoneEvidence{Out: true}
	}
}
