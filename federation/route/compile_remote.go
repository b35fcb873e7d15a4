package route

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// remote makes the candidate of a peer's offer: its rows summed over zones, or
// what its gateways report while that is fresh.
func (c *compiler) remote(s *Service, port catalog.Port, r *Remote, peer *Peer, theirs catalog.Port, asOne bool) candidate {
	target := Target{Service: s.Name, Port: port.Name, Cluster: r.Cluster}
	te, link := c.evidence.Targets[target], c.evidence.Links[r.Cluster]
	cand := candidate{
		target: target, name: r.Name, port: theirs,
		counters: obtain(c.live.targets, target), forecast: obtain(c.live.forecasts, target), backlog: obtain(c.live.backlogs, r.Cluster),
		rtt: link.RTT, perByteOut: perByte(link.BandwidthOut), perByteIn: perByte(link.BandwidthIn),
		processing: te.Processing, others: te.Others,
		distance: link.Distance,
		share:    min(shareOf(te.Withheld), shareOf(link.Withheld)),
	}
	if cand.distance <= 0 {
		cand.distance = link.RTT
	}
	nearest := c.count(&cand, r.Rows, theirs.Name, peer)
	if asOne && nearest == rankZone {
		nearest, cand.zone = rankRegion, "" // gateways of all zones must agree
	}
	if c.subset != nil {
		// Reports are of the whole service: they can only lower what the summary says.
		if te.Reported && c.age(te.ReportedAt) <= ReportFresh && te.Ready < cand.known {
			cand.known, cand.source = te.Ready, sourceReport
		}
	} else if te.Reported && c.age(te.ReportedAt) <= ReportFresh {
		cand.known, cand.source = te.Ready, sourceReport
		if te.Total > 0 { // else the summary still tells how many there should be
			cand.total = te.Total
		}
		cand.total = max(cand.total, cand.known)
	}
	cand.ready = cand.known
	c.farRoom(&cand, te)
	cand.place = place{list: nearest, peer: 1}
	cand.rank, cand.locality = nearest, peer.Locality.WithZone(cand.zone)
	c.witness(&cand, peer, link)
	if cand.reason == "" {
		c.eject(&cand, te)
	}
	if cand.reason == "" && cand.known == 0 {
		cand.exclude(NoReadyEndpoints, time.Time{}, "") // since what its source says (sourceAt)
	}
	cand.clusterReady, cand.clusterTotal = cand.ready, cand.total
	return cand
}

// perByte are the nanoseconds of one byte; 0 is not known.
func perByte(bytesPerSecond uint64) float32 {
	if bytesPerSecond == 0 {
		return 0
	}
	return float32(float64(time.Second) / float64(bytesPerSecond))
}

// count sums the rows of a port and returns the rank of the nearest ready one.
// Subsets are disjoint, so that rows of different subsets add up too.
func (c *compiler) count(cand *candidate, rows []catalog.SummaryRow, port string, peer *Peer) int {
	rank := rankOf(c.plan.self, peer.Locality.WithZone(""))
	var ready, total uint64
	for _, row := range rows {
		if row.Port != port || !c.subset.takesRow(row.Subset) {
			continue
		}
		if c.zoneOut(cand.target, row.Zone) {
			row.Ready = 0
		}
		ready, total = ready+uint64(row.Ready), total+uint64(row.Total)
		if row.Ready > 0 && rankOf(c.plan.self, peer.Locality.WithZone(row.Zone)) == rankZone {
			rank, cand.zone = rankZone, row.Zone
		}
	}
	const most = 1<<32 - 1
	cand.known, cand.total = uint32(min(ready, most)), uint32(min(max(ready, total), most))
	cand.source = sourceSummary
	return rank
}

// witness applies the two witnesses of a peer's life: the catalog lease
// (control) and the link (data path).
//
//	link up,   control heard: in service.
//	link up,   control lost:  in service, by counts of a known age.
//	link down, control heard: out at once; its endpoints still count as its
//	                          tier's whole, so that the tiers behind take over
//	                          what it carried.
//	link down, control lost:  out, and withdrawn after WithdrawAfter.
//
// If not one link is up the fault may be this gateway's: nothing is withdrawn
// then, and layout keeps the last weights where nothing else is left.
func (c *compiler) witness(cand *candidate, peer *Peer, link LinkEvidence) {
	cand.controlLost = peer.ControlLost
	switch {
	case link.Up:
	case peer.ControlLost:
		cand.exclude(ControlLostDataDead, link.Since, c.heard(peer))
		if !c.plan.alone && c.age(peer.HeardAt) >= WithdrawAfter && c.age(link.Since) >= WithdrawAfter/2 {
			cand.exclude(Withdrawn, link.Since, c.heard(peer))
			cand.total = 0
		}
	case link.Draining:
		cand.exclude(LinkDraining, link.Since, "")
	default:
		cand.exclude(LinkDown, link.Since, c.heard(peer))
	}
}

func (c *compiler) heard(peer *Peer) string {
	switch {
	case peer.HeardAt.IsZero():
		return "its federation was never heard"
	case peer.ControlLost:
		return fmt.Sprintf("its federation was last heard %s ago", c.age(peer.HeardAt).Round(time.Second))
	default:
		return "its federation is heard"
	}
}

// age of what happened at t; a time that is not known is older than anything.
func (c *compiler) age(t time.Time) time.Duration {
	if t.IsZero() {
		return 1<<63 - 1
	}
	return c.evidence.Now.Sub(t)
}
