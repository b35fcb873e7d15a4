package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Switches are what an operator has set by hand at the deciding gateway, over
// what traffic policies say.
type Switches struct {
	// Pin sends calls to a cluster, or to the clusters of CLOUD/REGION or CLOUD, wherever
	// these have the service; other services are routed as ever. What policies rule out
	// stays out.
	Pin string `json:"pin,omitempty"`
	// FailoverOff keeps calls in the clusters of their first tier.
	FailoverOff bool `json:"failover_off,omitempty"`
}

// CheckPlace reports what is wrong with the text of a place: a cluster, CLOUD/REGION
// or CLOUD.
func CheckPlace(s string) error {
	if !strings.Contains(s, "/") {
		_, err := catalog.ParseClusterName(s)
		return err
	}
	if _, err := catalog.ParseLocality(s); err != nil {
		return err
	}
	if cloud, region, _ := strings.Cut(s, "/"); cloud == "" || region == "" || strings.Contains(region, "/") {
		return errors.New("must be a cluster, CLOUD/REGION or CLOUD")
	}
	return nil
}

// inPlace reports whether a cluster is in a place; named says that some cluster of the
// table has the place's name, so that it is no cloud.
func inPlace(place string, name catalog.ClusterName, l catalog.Locality, named bool) bool {
	if cloud, region, deep := strings.Cut(place, "/"); deep {
		return l.Cloud == cloud && l.Region == region
	}
	if named {
		return string(name) == place
	}
	return l.Cloud == place
}

// applySwitches leaves out what the gateway's own switches rule out, after the policy
// has had its say.
func (c *compiler) applySwitches(all []candidate, out []exclusion) ([]candidate, []exclusion) {
	s := c.evidence.Switches
	if s == (Switches{}) {
		return all, out
	}
	drop := func(cand *candidate, r Reason, detail string) {
		out = append(out, exclusion{cluster: cand.target.Cluster, zone: cand.zone, reason: r, detail: detail, able: cand.usable()})
	}
	if s.Pin != "" {
		all = keepSome(all, func(cand *candidate) bool { return c.pinnedHere(cand.target.Cluster) }, func(cand *candidate) {
			drop(cand, LocalPin, fmt.Sprintf("a switch of this gateway pins calls to %s", s.Pin))
		})
	}
	if s.FailoverOff && len(all) > 0 {
		first := all[0].place
		for i := range all {
			if all[i].place.compare(first) < 0 {
				first = all[i].place
			}
		}
		at := make(map[catalog.ClusterName]bool)
		for i := range all {
			if all[i].place == first {
				at[all[i].target.Cluster] = true
			}
		}
		all = keepSome(all, func(cand *candidate) bool { return at[cand.target.Cluster] }, func(cand *candidate) {
			drop(cand, LocalFailoverOff, "a switch of this gateway turns failover off")
		})
	}
	return all, out
}

// keepSome keeps those that keep says yes to, if there are any.
func keepSome(all []candidate, keep func(*candidate) bool, drop func(*candidate)) []candidate {
	some := false
	for i := range all {
		some = some || keep(&all[i])
	}
	if !some {
		return all
	}
	kept := all[:0]
	for i := range all {
		if !keep(&all[i]) {
			drop(&all[i])
			continue
		}
		kept = append(kept, all[i])
	}
	return kept
}

// pinnedHere reports whether the pin means a cluster.
func (c *compiler) pinnedHere(name catalog.ClusterName) bool {
	pin := c.evidence.Switches.Pin
	named := string(c.table.Cluster.Name) == pin || c.plan.peers[catalog.ClusterName(pin)] != nil
	l := c.table.Cluster.Locality
	if p := c.plan.peers[name]; p != nil {
		l = p.Locality
	}
	return inPlace(pin, name, l, named)
}
