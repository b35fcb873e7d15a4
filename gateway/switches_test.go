package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/switches"
)

// flip sets the switches of a node's host and waits until the gateway obeys.
func (n *node) flip(s switches.State) {
	t := n.cluster.world.t
	t.Helper()
	if err := switches.Save(n.config.DataDir, s); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway obeys its switches", func() error {
		_, body := n.admin("/readyz")
		var ready struct {
			Ready      bool
			Conditions []struct {
				Name, Reason string
				OK           bool
			}
		}
		if err := json.Unmarshal(body, &ready); err != nil {
			return err
		}
		for _, c := range ready.Conditions {
			if c.Name == "switches" && c.Reason == s.String() && c.OK == !s.Any() && ready.Ready {
				return nil
			}
		}
		return fmt.Errorf("%s", body)
	})
}

func on(reason string) *switches.Set {
	return &switches.Set{By: "ann", Reason: reason, At: time.Now().UTC().Round(time.Second)}
}

// TestAFrozenGatewayKeepsItsTable: with its federation mad or dead, it goes on as it
// was, across a restart; what denies holds all the same; and taken back, the newest
// table applies.
func TestAFrozenGatewayKeepsItsTable(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("billing", catalog.HTTP, httpServer(t, who("beta")))
	w.cluster("alpha").host("web", catalog.HTTP, httpServer(t, who("web")))
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.start()
	call := func(service string) int {
		status, _, _ := get(t, near.client(), "http://"+service+".default.mesh/")
		return status
	}
	if a, b := call("billing"), call("web"); a != http.StatusOK || b != http.StatusOK {
		t.Fatal(a, b)
	}
	near.flip(switches.State{Freeze: on("the federation is mad")})

	// It says that there is nothing any more.
	empty := w.table(w.cluster("alpha"))
	empty.Services, empty.Peers = nil, nil
	near.tables.push(empty)
	time.Sleep(100 * time.Millisecond)
	if a, b := call("billing"), call("web"); a != http.StatusOK || b != http.StatusOK {
		t.Errorf("a frozen gateway obeys an empty table: %d, %d", a, b)
	}
	if near.metric("isthmus_gateway_switch", "switch=freeze") != 1 || near.metric("isthmus_gateway_tables_total", "result=frozen") == 0 {
		t.Error("the metrics do not tell of it")
	}
	eventually(t, "the report tells of it", func() error {
		if r := near.reports.last(); r == nil || !r.Frozen || !strings.Contains(r.SwitchedBy, "the federation is mad") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	near.stop()
	near.boot()
	near.waitReady()
	eventually(t, "it serves after a restart", func() error {
		if a, b := call("billing"), call("web"); a != http.StatusOK || b != http.StatusOK {
			return fmt.Errorf("%d, %d", a, b)
		}
		return nil
	})

	// A denial holds.
	denied := w.table(w.cluster("alpha"))
	denied.Intentions = append(denied.Intentions, policy.Intention{
		Name: "nobody", Services: []policy.ServicePattern{"web.default"}, Callers: []policy.IDPattern{policy.IDPattern(w.cluster("alpha").caller())}, Action: policy.Deny,
	})
	denied.Peers = nil
	for i := range denied.Services {
		denied.Services[i].Remote, denied.Services[i].ExportedTo = nil, nil
	}
	near.tables.push(denied)
	eventually(t, "the denial holds, and nothing else", func() error {
		if a, b := call("billing"), call("web"); a != http.StatusOK || b != http.StatusForbidden {
			return fmt.Errorf("%d, %d", a, b)
		}
		return nil
	})

	// Taken back, the newest table applies: no peers.
	near.flip(switches.State{})
	eventually(t, "the newest table applies", func() error {
		if a, b := call("billing"), call("web"); a == http.StatusOK || b != http.StatusForbidden {
			return fmt.Errorf("%d, %d", a, b)
		}
		return nil
	})
}

// TestPinAndFailoverOff at a real gateway.
func TestPinAndFailoverOff(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	for _, name := range []catalog.ClusterName{"alpha", "beta", "gamma"} {
		w.cluster(name).host("billing", catalog.HTTP, httpServer(t, who(string(name))))
	}
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	gamma := w.cluster("gamma").gateway("gw1")
	w.start()
	at := func() string {
		status, _, body := get(t, near.client(), "http://billing.default.mesh/")
		if status != http.StatusOK {
			return fmt.Sprint(status)
		}
		return parse(t, body).Name
	}
	if got := at(); got != "alpha" {
		t.Fatal(got)
	}
	near.flip(switches.State{Pin: &switches.Pin{Set: *on("drill"), Place: "gamma"}})
	if got := at(); got != "gamma" {
		t.Errorf("pinned to gamma, and goes to %s", got)
	}
	near.flip(switches.State{Pin: &switches.Pin{Set: *on("drill"), Place: "gamma"}, FailoverOff: on("no surprises")})
	gamma.kill()
	eventually(t, "calls fail instead of going elsewhere", func() error {
		if got := at(); got != "503" && got != "502" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	near.flip(switches.State{})
	eventually(t, "all is as before", func() error {
		if got := at(); got != "alpha" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}
