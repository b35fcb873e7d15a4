package consul

import (
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// A check that fails and passes again between two answers of the watch shows in
// neither; a read in between, which saw it fail, must not be the last one.
func TestWhatAReadSawBetweenTwoAnswersIsReadAgain(t *testing.T) {
	node := func(status string) *api.HealthCheck {
		return &api.HealthCheck{Node: "n1", CheckID: "serfHealth", Status: status}
	}
	service := func(status string) *api.HealthCheck {
		return &api.HealthCheck{Node: "n1", ServiceID: "web-1", ServiceName: "web", CheckID: "c", Status: status}
	}
	read := func(checks ...*api.HealthCheck) []*api.ServiceEntry {
		e := entry(func(e *api.ServiceEntry) { e.Checks = checks })
		other := entry(func(e *api.ServiceEntry) { e.Service.ID = "web-2"; e.Checks = checks[:1] })
		return []*api.ServiceEntry{e, other}
	}
	for name, c := range map[string]struct {
		seen []*api.ServiceEntry
		want bool
	}{
		"the same":                 {read(node("passing"), service("passing")), false},
		"the service had failed":   {read(node("passing"), service("critical")), true},
		"its node had failed":      {read(node("critical"), service("passing")), true},
		"the check was not there":  {read(node("passing")), true},
		"the node's was not there": {[]*api.ServiceEntry{entry(func(e *api.ServiceEntry) { e.Checks = api.HealthChecks{service("passing")} })}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTriggers()
			checks := api.HealthChecks{node("passing"), service("passing")}
			tr.sawServices(map[string][]string{"web": nil}, arrival{})
			tr.sawChecks(checks, arrival{})
			if w := tr.take(time.Now(), false); len(w.dirty) != 1 {
				t.Fatalf("a new service: %v", w.dirty)
			}
			tr.sawRead("web", c.seen)
			if w := tr.take(time.Now(), false); len(w.dirty) != 0 {
				t.Errorf("before the next answer: %v", w.dirty)
			}
			tr.sawChecks(checks, arrival{})
			if w := tr.take(time.Now(), false); (len(w.dirty) == 1) != c.want {
				t.Errorf("after an answer that is as the one before: %v", w.dirty)
			}
			tr.sawRead("web", read(checks...))
			tr.sawChecks(checks, arrival{})
			if w := tr.take(time.Now(), false); len(w.dirty) != 0 {
				t.Errorf("after a read that saw the same: %v", w.dirty)
			}
		})
	}
}
