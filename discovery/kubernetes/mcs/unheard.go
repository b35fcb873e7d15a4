package mcs

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// gatewayLabel of a slice names the gateway that it points at.
const gatewayLabel = "isthmus-mesh.github.io/gateway"

// unheard is what slices say of gateways that the federation does not know.
type unheard struct {
	// places are those to hold, by import.
	places map[types.NamespacedName][]place
	// since says from when on each gateway was not known: the next pass needs it.
	since map[string]time.Time
	// again is when the first of them is due; 0 is never.
	again time.Duration
}

// findUnheard decides which slices of unknown gateways stay. A federation that has just
// started has heard some of its gateways, and an import may have its listener on another
// one: a gateway counts as gone once it was not known for hold. While none is known, that
// says nothing of any, and no time passes. It is pure; since is that of the last pass.
func findUnheard(all []*unstructured.Unstructured, gateways []Gateway, since map[string]time.Time, now time.Time, hold time.Duration) unheard {
	u := unheard{places: map[types.NamespacedName][]place{}, since: map[string]time.Time{}}
	for _, o := range all {
		p, ok := placeOf(o)
		if !ok || slices.ContainsFunc(gateways, func(g Gateway) bool { return g.Name == p.gateway }) {
			continue
		}
		if len(gateways) > 0 {
			from, known := since[p.gateway]
			if !known {
				from = now
			}
			u.since[p.gateway] = from
			left := hold - now.Sub(from)
			if left <= 0 {
				continue
			}
			if u.again == 0 || left < u.again {
				u.again = left
			}
		}
		of := serviceKey(o)
		same := func(q place) bool { return q.gateway == p.gateway && q.address == p.address }
		if !slices.ContainsFunc(u.places[of], same) { // a Service that was renamed has two for a moment
			u.places[of] = append(u.places[of], p)
		}
	}
	for _, places := range u.places {
		sortPlaces(places)
	}
	return u
}

// placeOf reads a slice as it was written here; of one that somebody has pointed
// elsewhere nothing is believed.
func placeOf(o *unstructured.Unstructured) (place, bool) {
	p := place{gateway: o.GetLabels()[gatewayLabel], numbers: map[string]uint16{}, unheard: true}
	endpoints, _, _ := unstructured.NestedSlice(o.Object, "endpoints") // none: not as written here
	if p.gateway == "" || len(endpoints) != 1 {
		return p, false
	}
	endpoint, _ := endpoints[0].(map[string]any)
	addresses, _, _ := unstructured.NestedStringSlice(endpoint, "addresses")
	if len(addresses) != 1 {
		return p, false
	}
	var err error
	if p.address, err = netip.ParseAddr(addresses[0]); err != nil || !dialable(p.address) || !strings.HasSuffix(o.GetName(), "-"+p.digest()) {
		return p, false
	}
	p.zone, _, _ = unstructured.NestedString(endpoint, "zone")
	p.ready, _, _ = unstructured.NestedBool(endpoint, "conditions", "ready")
	ports, _, _ := unstructured.NestedSlice(o.Object, "ports")
	for _, item := range ports {
		port, _ := item.(map[string]any)
		name, _ := port["name"].(string)
		if n, ok := port["port"].(int64); ok && n > 0 && n <= 65535 {
			p.numbers[name] = uint16(n)
		}
	}
	return p, true
}

// with adds the places of unknown gateways, as far as the import still has their ports and
// no gateway that is known has the same listeners: one that is called otherwise now is one.
func with(known []place, held []place, ports []catalog.Port) []place {
	all := slices.Clone(known)
	for _, p := range held {
		wanted := slices.ContainsFunc(ports, func(port catalog.Port) bool { return p.numbers[port.Name] != 0 })
		if wanted && !slices.ContainsFunc(known, p.within) {
			all = append(all, p)
		}
	}
	sortPlaces(all)
	return all
}

// within tells whether o has every listener of p.
func (p place) within(o place) bool {
	for name, n := range p.numbers {
		if o.numbers[name] != n {
			return false
		}
	}
	return p.address == o.address
}

func sortPlaces(places []place) {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.gateway, b.gateway), a.address.Compare(b.address))
	})
}
