package discovery_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// drawWorld draws a few services with a few endpoints from a small pool of IDs,
// so that reads withdraw, replace, bring back and turn critical all the time.
func drawWorld(t *rapid.T) world {
	w := world{}
	for _, name := range []string{"a", "b", "c", "d"} {
		if rapid.IntRange(0, 9).Draw(t, "absent") == 0 {
			continue
		}
		ids := []string{}
		for i := range rapid.IntRange(0, 8).Draw(t, "endpoints") {
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0, 1:
			case 2:
				ids = append(ids, fmt.Sprint("!", i))
			case 3:
				ids = append(ids, fmt.Sprint("new", i))
			default:
				ids = append(ids, fmt.Sprint(i))
			}
		}
		w[name] = ids
	}
	return w
}

func usable(s *catalog.Service) map[string]bool {
	m := map[string]bool{}
	if s != nil {
		for _, e := range s.Endpoints {
			if e.Health.Usable() {
				m[e.ID] = true
			}
		}
	}
	return m
}

// For any history of reads: no read unroutes more than the threshold (net, with
// what was let go in the window before), none takes a service's last usable
// endpoint without confirmation, everything read is effective, and what is kept
// beyond it is marked. When the reads stop changing, they become effective to
// the letter.
func TestGuardInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := discovery.GuardOptions{Count: 2, Share: 0.2, Window: time.Minute, Reads: 3}
		g, err := discovery.NewGuard(opts)
		if err != nil {
			rt.Fatal(err)
		}
		now := time.Unix(0, 0)
		var before *catalog.Snapshot
		for range rapid.IntRange(1, 12).Draw(rt, "reads") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "seconds")) * time.Second)
			read := drawWorld(rt).snapshot(t)
			heldBefore := map[discovery.EndpointKey]discovery.Quarantine{}
			for _, q := range g.Quarantined() {
				heldBefore[q.EndpointKey] = q
			}
			after, err := g.Offer(now, read)
			if err != nil {
				rt.Fatal(err)
			}
			checkEffective(rt, read, after, g)
			if before != nil {
				checkStep(rt, opts, now, before, read, after, heldBefore)
			}
			before = after
		}
		last := drawWorld(rt).snapshot(t)
		for range 5 {
			if _, err := g.Offer(now, last); err != nil {
				rt.Fatal(err)
			}
			now = now.Add(20 * time.Second)
		}
		if !g.Effective().Equal(last) || g.Held() != 0 {
			rt.Fatalf("a steady read is not effective:\n%v\n%v", show(last), show(g.Effective()))
		}
	})
}

// checkEffective: read plus marked endpoints is what is effective.
func checkEffective(t *rapid.T, read, after *catalog.Snapshot, g *discovery.Guard) {
	held := map[discovery.EndpointKey]bool{}
	for _, q := range g.Quarantined() {
		held[q.EndpointKey] = true
	}
	marks := 0
	for svc := range after.All() {
		there := usableOrNot(read.Get(svc.Name))
		for _, e := range svc.Endpoints {
			k := discovery.EndpointKey{Service: svc.Name, ID: e.ID}
			if e.Quarantined != held[k] || e.Quarantined == there[e.ID] {
				t.Fatalf("%v: marked %v, held %v, read %v", k, e.Quarantined, held[k], there[e.ID])
			}
			if e.Quarantined {
				marks++
			}
		}
		for id := range there {
			if !usableOrNot(svc)[id] {
				t.Fatalf("%s of %s was read and is not effective", id, svc.Name)
			}
		}
	}
	if marks != len(held) {
		t.Fatalf("%d are held, %d marked", len(held), marks)
	}
	for svc := range read.All() {
		if after.Get(svc.Name) == nil {
			t.Fatalf("%s was read and is not effective", svc.Name)
		}
	}
}

func usableOrNot(s *catalog.Service) map[string]bool {
	m := map[string]bool{}
	if s != nil {
		for _, e := range s.Endpoints {
			m[e.ID] = true
		}
	}
	return m
}

// checkStep: what one read took away.
func checkStep(t *rapid.T, o discovery.GuardOptions, now time.Time, before, read, after *catalog.Snapshot, held map[discovery.EndpointKey]discovery.Quarantine) {
	unrouted := 0
	for svc := range before.All() {
		was, is := usable(svc), usable(after.Get(svc.Name))
		lost, gained, confirmed := 0, 0, false
		for id := range was {
			if is[id] || usableOrNot(read.Get(svc.Name))[id] { // also: turned critical, its own word
				continue
			}
			q, wasHeld := held[discovery.EndpointKey{Service: svc.Name, ID: id}]
			if wasHeld {
				confirmed = true
				if now.Sub(q.Since) < o.Window || q.Reads+1 < o.Reads {
					lost++ // must have been replaced
				}
				continue
			}
			lost++
		}
		for id := range is {
			if !was[id] {
				gained++
			}
		}
		unrouted += max(0, lost-gained)
		if lost > 0 && !confirmed && len(is) == 0 {
			t.Fatalf("%s lost its last usable endpoint without confirmation", svc.Name)
		}
	}
	// The share is of what there was at the window's start: what is there now, and
	// what was let go since, which is at most the count or a quarter of the rest.
	base := before.EndpointCount() + max(o.Count, before.EndpointCount()/4)
	if limit := max(o.Count, int(o.Share*float64(base))); unrouted > limit {
		t.Fatalf("one read unrouted %d, at most %d:\n%v\n%v\n%v", unrouted, limit, show(before), show(read), show(after))
	}
}
