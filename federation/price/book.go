package price

import (
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// MaxPrices bounds a book: every pair of regions of three large clouds, several times.
const MaxPrices = 50_000

// Direction is what a price is for, as seen from its cloud.
type Direction string

// The directions.
const (
	// Egress is what leaves a region of the cloud, for another region or elsewhere.
	Egress Direction = "egress"
	// Ingress is what comes into one.
	Ingress Direction = "ingress"
	// InterZone is what goes from one zone to another within a region, both sides
	// together.
	InterZone Direction = "inter_zone"
)

// Book is a price book. Its JSON and its YAML have the same names.
type Book struct {
	Prices []Price `json:"prices" yaml:"prices" maxItems:"50000"`
}

// Price is one price of one cloud.
type Price struct {
	// Cloud is the one that bills it; Region narrows it to one region of the cloud.
	Cloud  string `json:"cloud" yaml:"cloud"`
	Region string `json:"region,omitempty" yaml:"region,omitempty"`
	// Direction is egress, ingress or inter_zone.
	Direction Direction `json:"direction" yaml:"direction"`
	// Peer is the other side: CLOUD or CLOUD/REGION; left out, any place beyond the region.
	Peer string `json:"peer,omitempty" yaml:"peer,omitempty"`
	// PerGB is in dollars for 10^9 bytes.
	PerGB *float64 `json:"per_gb" yaml:"per_gb"`
	// ValidFrom is when it begins to hold: a day, or an RFC 3339 time. It holds until
	// one of the same place, direction and peer begins to.
	ValidFrom Day `json:"valid_from" yaml:"valid_from"`
}

// Day is a moment that people write as a day.
type Day struct{ time.Time }

// UnmarshalText reads "2026-01-31" (UTC) or an RFC 3339 time.
func (d *Day) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			d.Time = t.UTC()
			return nil
		}
	}
	return errors.New(`must be a day such as "2026-01-31" or an RFC 3339 time`)
}

// MarshalText writes a day where the moment is one.
func (d Day) MarshalText() ([]byte, error) {
	if d.Time.Equal(d.Truncate(24 * time.Hour)) {
		return []byte(d.UTC().Format(time.DateOnly)), nil
	}
	return []byte(d.UTC().Format(time.RFC3339)), nil
}

// Validate reports every problem, each a *catalog.FieldError.
func (b *Book) Validate() error {
	var errs []error
	if len(b.Prices) > MaxPrices {
		return wrong("prices", len(b.Prices), fmt.Sprintf("at most %d", MaxPrices))
	}
	seen := make(map[key]int, len(b.Prices))
	for i := range b.Prices {
		p := &b.Prices[i]
		before := len(errs)
		p.validate(func(field string, value any, rule string) {
			errs = append(errs, wrong(fmt.Sprintf("prices[%d].%s", i, field), value, rule))
		})
		if len(errs) > before {
			continue
		}
		k := key{p.Cloud, p.Region, p.Direction, p.Peer, p.ValidFrom.UnixNano()}
		if j, twice := seen[k]; twice {
			errs = append(errs, wrong(fmt.Sprintf("prices[%d].valid_from", i), p.ValidFrom.Format(time.DateOnly),
				fmt.Sprintf("prices[%d] is of the same place, direction, peer and day", j)))
		}
		seen[k] = i
	}
	return errors.Join(errs...)
}

func wrong(field string, value any, rule string) error {
	return &catalog.FieldError{Field: field, Value: value, Rule: rule}
}

type key struct {
	cloud, region string
	direction     Direction
	peer          string
	from          int64
}

func (p *Price) validate(fail func(field string, value any, rule string)) {
	place := catalog.Locality{Cloud: p.Cloud, Region: p.Region}
	switch err := place.Validate(); {
	case p.Cloud == "":
		fail("cloud", "", "is required: the cloud that bills it")
	case err != nil:
		fail("cloud", place.String(), err.Error())
	}
	switch p.Direction {
	case Egress, Ingress:
		if l, err := catalog.ParseLocality(p.Peer); p.Peer != "" && (err != nil || l.Cloud == "" || l.Zone != "") {
			fail("peer", p.Peer, `must be "cloud" or "cloud/region"`)
		}
		if p.Region != "" && p.Peer == p.Cloud+"/"+p.Region {
			fail("peer", p.Peer, fmt.Sprintf("is the region itself: what stays in a region is %s", InterZone))
		}
	case InterZone:
		if p.Peer != "" {
			fail("peer", p.Peer, fmt.Sprintf("is not of %s, which has both sides in one region", InterZone))
		}
	default:
		fail("direction", p.Direction, fmt.Sprintf("must be %s, %s or %s", Egress, Ingress, InterZone))
	}
	switch {
	case p.PerGB == nil:
		fail("per_gb", "", "is required: dollars for 10^9 bytes; 0 is for free")
	case !(*p.PerGB >= 0 && *p.PerGB <= route.MaxPricePerGB): // also NaN
		fail("per_gb", *p.PerGB, fmt.Sprintf("must be 0 to %d dollars", route.MaxPricePerGB))
	}
	if p.ValidFrom.IsZero() {
		fail("valid_from", "", "is required: the day from which it holds")
	}
}
