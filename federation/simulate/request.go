package simulate

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// ChangeOf checks what is supposed, and reports all that is wrong with it.
func ChangeOf(r *resource.SimulateRequest) (c Change, err error) {
	var found []error
	wrong := func(field, value string, err error) {
		found = append(found, &catalog.FieldError{Field: field, Value: value, Rule: err.Error()})
	}
	for i, s := range r.Down {
		p, err := ParsePlace(s)
		if err != nil {
			wrong(fmt.Sprintf("down[%d]", i), s, err)
		}
		c.Down = append(c.Down, p)
	}
	for i, s := range r.Capacity {
		k, err := ParseCapacity(s)
		if err != nil {
			wrong(fmt.Sprintf("capacity[%d]", i), s, err)
		}
		c.Capacity = append(c.Capacity, k)
	}
	for i := range r.TrafficPolicies {
		if err := r.TrafficPolicies[i].Validate(); err != nil {
			wrong(fmt.Sprintf("traffic_policies[%d]", i), r.TrafficPolicies[i].Name, err)
		}
		c.Traffic = append(c.Traffic, r.TrafficPolicies[i])
	}
	if r.Prices != nil {
		if err := r.Prices.Validate(); err != nil {
			found = append(found, strictyaml.Within("price_book", err))
		}
		c.Prices = r.Prices
	}
	return c, errors.Join(found...)
}
