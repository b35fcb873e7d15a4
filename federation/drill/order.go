package drill

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

const (
	// MostShare is the largest share without DrillRequest.Beyond.
	MostShare = 0.10
	// Shortest is the shortest drill: gateways report once a second.
	Shortest = 5 * time.Second
	// unit is what route.Drill counts shares in.
	unit = 10_000
)

// Order is a checked request.
type Order struct {
	Places   []simulate.Place
	Zones    []catalog.Locality
	Services []catalog.ServiceName
	Share    uint32 // of unit
	For      time.Duration
	AtOnce   bool
}

// Moment is what of a simulation an order is compared with.
func (o *Order) Moment() string {
	if o.AtOnce {
		return simulate.AtOnce
	}
	return simulate.Settled
}

// OrderOf checks a request, and reports all that is wrong with it.
func OrderOf(r *resource.DrillRequest) (o Order, err error) {
	var found []error
	wrong := func(field string, value any, rule string) {
		found = append(found, &catalog.FieldError{Field: field, Value: value, Rule: rule})
	}
	if len(r.Down)+len(r.Zones) == 0 {
		wrong("down", "", "name a cluster, region or cloud, or a zone, that is to count as lost")
	}
	for i, s := range r.Down {
		p, err := simulate.ParsePlace(s)
		if err != nil {
			wrong(fmt.Sprintf("down[%d]", i), s, err.Error())
		}
		o.Places = append(o.Places, p)
	}
	for i, s := range r.Zones {
		l, err := catalog.ParseLocality(s)
		if err != nil || l.Cloud == "" || l.Region == "" || l.Zone == "" {
			wrong(fmt.Sprintf("zones[%d]", i), s, "must be CLOUD/REGION/ZONE")
		}
		o.Zones = append(o.Zones, l)
	}
	o.Services = slices.SortedFunc(slices.Values(r.Services), catalog.ServiceName.Compare)
	o.Services = slices.Compact(o.Services)
	share, ok := parseShare(r.Share)
	switch {
	case !ok || share < 1.0/unit || share > 1:
		wrong("share", r.Share, "must be above 0 and at most 100%, such as 5% or 0.05")
	case share > MostShare && !r.Beyond:
		wrong("share", r.Share, fmt.Sprintf("at most %.0f%% unless beyond is set: what a drill breaks, it breaks for so many", 100*MostShare))
	default:
		o.Share = uint32(math.Round(share * unit))
	}
	d, err := time.ParseDuration(r.For)
	if err != nil || d < Shortest || d > route.MaxDrill {
		wrong("for", r.For, fmt.Sprintf("must be a duration of %s to %s, such as 10m", Shortest, route.MaxDrill))
	}
	o.For = d
	switch r.Moment {
	case "", simulate.Settled:
	case simulate.AtOnce:
		o.AtOnce = true
	default:
		wrong("moment", r.Moment, "must be settled or at_once")
	}
	return o, errors.Join(found...)
}

// parseShare reads "5%" or "0.05".
func parseShare(s string) (float64, bool) {
	number, percent := strings.CutSuffix(s, "%")
	x, err := strconv.ParseFloat(number, 64)
	if percent {
		x /= 100
	}
	return x, err == nil && !math.IsNaN(x)
}

// Clusters are the clusters of a table that the order's places mean, by name. A place, a
// zone's region or a service that is not known there is an error.
func (o *Order) Clusters(t *route.Table) (down []catalog.ClusterName, err error) {
	var found []error
	for i, p := range o.Places {
		names := p.Clusters(t)
		if len(names) == 0 {
			found = append(found, &catalog.FieldError{Field: fmt.Sprintf("down[%d]", i), Value: p.String(), Rule: "no cluster, region or cloud that is known here"})
		}
		down = append(down, names...)
	}
	for i, z := range o.Zones {
		known := t.Cluster.Locality.WithZone("") == z.WithZone("")
		for k := range t.Peers {
			known = known || t.Peers[k].Locality.WithZone("") == z.WithZone("")
		}
		if !known {
			found = append(found, &catalog.FieldError{Field: fmt.Sprintf("zones[%d]", i), Value: z.String(), Rule: "no cluster that is known here is in that region"})
		}
	}
	for i, s := range o.Services {
		if !slices.ContainsFunc(t.Services, func(x route.Service) bool { return x.Name == s }) {
			found = append(found, &catalog.FieldError{Field: fmt.Sprintf("services[%d]", i), Value: s.String(), Rule: "no service that is known here"})
		}
	}
	slices.Sort(down)
	return slices.Compact(down), errors.Join(found...)
}
