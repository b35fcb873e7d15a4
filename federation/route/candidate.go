package route

import (
	"cmp"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// candidate is a service's port in a cluster: in a peer as a whole, in the own
// cluster per zone of its endpoints.
type candidate struct {
	target Target
	// name and port are the cluster's own.
	name     catalog.ServiceName
	port     catalog.Port
	counters *Counters
	// zoneCounters are those of the own endpoints' zone alone.
	// probing are the counters that give out its probation, where those are not the
	// target's: it is one zone that is out.
	probing      *Counters
	zoneCounters *Counters
	forecast     *Forecast
	backlog      *Backlog // of a peer

	// locality is that of the own endpoints, or of the peer as this cluster's
	// configuration has it; rank is its distance.
	locality catalog.Locality
	rank     int
	// zone is the own endpoints' zone; of a peer, the own zone if it has ready
	// endpoints there.
	zone string
	// endpoints is set for the own cluster.
	endpoints *endpointSet
	// quarantined endpoints are candidates of their own, used last.
	quarantined bool

	// known and total are the last known counts; ready is what of known may be
	// used: 0 with a reason.
	known, ready, total uint32
	// clusterReady and clusterTotal are the same over all candidates of the
	// cluster, which a policy's weight is for as a whole.
	clusterReady, clusterTotal uint32
	source                     string // of the counts

	reason      Reason
	detail      string
	since       time.Time // of the reason
	until       time.Time // of the ejection
	controlLost bool      // with a link up: kept

	rtt, distance time.Duration
	// perByte are the nanoseconds of a byte over the link; processing and others are
	// told by its gateways.
	perByteOut, perByteIn float32
	processing            time.Duration
	others                uint64
	share                 uint64 // of whole; below it while a ramp is under way
	// weight is the policy's, where a split names the candidate, which split says.
	weight uint64
	listed bool
	split  splitName
	// differs is the first label that it does not share, of a policy that ranks by
	// labels.
	differs int
	// room is what is known of the capacity, gate what bounds the calls by it.
	room  room
	gate  gate
	place place
	tier  int
	// price is what bytes to it cost, perDollar how many seconds a dollar is worth.
	price     Price
	perDollar float64
}

// The sources of counts.
const (
	sourceDataPath = "data path"
	sourceSummary  = "summary"
	sourceReport   = "report of its gateway"
)

// place orders candidates into tiers: those of equal places share one.
type place struct {
	// list is the entry of the policy's cluster list, the rank by its labels, or the
	// rank of distance.
	list int
	// inner is the rank of distance inside of the former two.
	inner int
	// peer is 0 for the own cluster: at equal rank it comes first, since a call
	// to it crosses one gateway, no link and no other failure domain.
	peer int
	// band is that of the measured distance beyond the region.
	band int
	// unlisted clusters come after those that share a tier by weights.
	unlisted int
}

const (
	// firstPlace is that of a distribution.
	firstPlace = -1
	// lastPlace holds what is used when there is nothing else.
	lastPlace = 1 << 20
)

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.list, o.list), cmp.Compare(p.inner, o.inner), cmp.Compare(p.peer, o.peer),
		cmp.Compare(p.band, o.band), cmp.Compare(p.unlisted, o.unlisted))
}

func (c *candidate) own() bool { return c.endpoints != nil }

func (c *candidate) compare(o *candidate) int {
	return cmp.Or(c.place.compare(o.place), cmp.Compare(c.target.Cluster, o.target.Cluster), cmp.Compare(c.zone, o.zone))
}

// hashName is what a candidate's keys go by.
func (c *candidate) hashName() string {
	switch {
	case c.quarantined:
		return string(c.target.Cluster) + "/quarantined"
	case c.own():
		return string(c.target.Cluster) + "/" + c.locality.Zone
	default:
		return string(c.target.Cluster)
	}
}

// delay are the terms of its delay.
func (c *candidate) delay() terms {
	return terms{
		rtt: float32(c.rtt), out: c.perByteOut, in: c.perByteIn,
		processing: float32(c.processing), others: float32(c.others), lanes: float32(max(c.clusterReady, 1)),
		// Seconds a dollar times dollars a GB are nanoseconds a byte.
		priceOut: float32(c.perDollar * c.price.Out), priceIn: float32(c.perDollar * c.price.In),
	}
}

// exclude sets why the candidate is out of service.
func (c *candidate) exclude(r Reason, since time.Time, detail string) {
	c.reason, c.since, c.detail, c.ready = r, since, detail, 0
}

// usable reports whether health lets the candidate be drawn.
func (c *candidate) usable() bool { return c.ready > 0 }

// reachable reports whether it can be drawn if health is ignored.
func (c *candidate) reachable() bool { return c.total > 0 && !c.reason.down() }

// load is the candidate's weight among those of its tier: its ready endpoints,
// or the policy's weight, lowered by missing endpoints as Envoy lowers a
// locality's (weight x min(1, 1.4 x ready/total)); both lowered by the ramp.
// byHealth is false in panic, where health does not count; sums are those of the
// tier's splits.
func (c *candidate) load(byHealth bool, sums map[splitName]counts) uint64 {
	ready, share := uint64(c.ready), c.share
	if !byHealth {
		ready, share = uint64(max(c.total, 1)), whole
	}
	if !c.listed {
		return ready * share
	}
	part := sums[c.split]
	all, available := part.ready, healthOf(part.ready, part.total)
	if !byHealth {
		all, available = part.total, whole
	}
	if all == 0 || ready == 0 || share == 0 {
		return 0
	}
	// A part's weight is split between its zones and clusters by their endpoints.
	return max(c.weight*available*share/all*ready, 1)
}

// keys is the part of its keys, in units of 1/whole, that a cluster takes where calls are
// drawn by them: all while 71.4 % of its endpoints are ready, as a tier is whole (its
// others take over, and the keys of those that are well stay where they are). 0 where the
// policy's weights say it.
func (c *candidate) keys(byHealth bool) uint64 {
	switch {
	case c.listed:
		return 0
	case !byHealth:
		return whole
	}
	return healthOf(uint64(c.ready), uint64(c.total)) * c.share / whole
}

// exclusion is a cluster that rules leave out.
type exclusion struct {
	cluster catalog.ClusterName
	zone    string
	reason  Reason
	detail  string
	// able: it could take calls, but for the rule.
	able bool
}
