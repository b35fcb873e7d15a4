package aws_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
)

// What holds of AWS itself: it runs against moto, and against a real account where
// the environment names one.
func TestFollowsWhatHappens(t *testing.T) {
	for name, fresh := range map[string]func(*testing.T) *world{"moto": newWorld, "real": realWorld} {
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				w := fresh(t)
				if w.proxy == nil && kind == ecs.Kind {
					t.Skip("tasks without a service may not be in the group of one, and an image that answers is not ours to choose")
				}
				f := kinds[kind](w)
				one := discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}, "billing": {"10.0.0.3:81"}}
				two := discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.4:80"}, "orders": {"10.0.0.5:82"}}
				w.change(f, one)
				r := start(t, w.source(w.config(f.account)))
				r.usable(one)
				w.change(f, two)
				r.usable(two)
				w.change(f, discoverytest.Content{})
				r.usable(discoverytest.Content{})
			})
		}
	}
}

// usable waits until c is what can be used of what was published last: real targets
// drain, and real instances shut down, for minutes.
func (r *runner) usable(c discoverytest.Content) {
	r.t.Helper()
	r.await("usable "+c.String(), func(s *catalog.Snapshot) bool {
		got := discoverytest.Content{}
		for svc := range s.All() {
			for _, e := range svc.Endpoints {
				if e.Health != catalog.Maintenance {
					got[svc.Name.Name()] = append(got[svc.Name.Name()], e.Address.String())
				}
			}
		}
		for name := range got {
			slices.Sort(got[name])
		}
		return got.String() == c.String()
	})
}
