package consulmesh_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

func TestCallsCrossFromMeshToMesh(t *testing.T) {
	begin := time.Now()
	w := newWorld(t)
	w.start()
	stand.Figure(t, "two datacenters, five proxies and two clusters are up after %.1f s", time.Since(begin).Seconds())
	east, west := w.east.gateway(), w.west.gateway()

	// The east's own Consul allows web nothing yet, and the gateway stands for billing.
	stand.Eventually(t, within, "the east's intentions are asked", func() error {
		if got, err := w.say(t.Context()); err == nil {
			t.Fatalf("answered %q", got)
		}
		if metric(t, east, "isthmus_gateway_refusals_total", `way="mtls"`, `reason="consul_denied"`) == 0 {
			return errNot
		}
		return nil
	})
	w.guide.Run("east intention", w.east.operator())
	w.intend(w.east, "ledger", "*", api.IntentionActionAllow)
	w.intend(w.east, "stray", "*", api.IntentionActionAllow)

	// The west's Consul allows the gateway nothing yet.
	denied := func() float64 {
		return metric(t, west, "isthmus_gateway_mtls_handshakes_total", `side="out"`, `result="denied"`)
	}
	w.until("the sidecar's intention denies", w.say, "")
	stand.Eventually(t, within, "the denial is typed at both ends", func() error {
		_, err := w.say(t.Context())
		if err == nil {
			t.Fatal("it is answered")
		}
		near := metric(t, east, "isthmus_gateway_requests_total", `way="mtls"`, `service="ledger.default"`, `reason="denied"`)
		if near == 0 || denied() == 0 || w.sidecars["ledger"].LogCount("authz call denied") == 0 {
			return fmt.Errorf("%v at the near gateway, %v at the far one", near, denied())
		}
		return nil
	})
	w.until("over http, too", w.get, "")
	if n := metric(t, west, "isthmus_gateway_ejections_total"); n != 0 {
		t.Errorf("%v ejections of services that are well", n)
	}

	w.guide.Run("west intention", w.west.operator())
	w.allow("ledger", api.IntentionActionAllow)
	// The application behind the far sidecar is told who called the near one.
	w.until("billing", w.get, "URI="+w.east.id("web"))
	if got := w.guide.Run("east call", w.east.operator(), "127.0.0.1:9191", w.upstreams["billing"].String()); !strings.HasSuffix(got, "URI="+w.east.id("web")) {
		t.Errorf("the guide's call is answered %q", got)
	}
	w.until("ledger", w.say, "hello\n")
	before := denied()
	w.allow("ledger", api.IntentionActionDeny)
	w.until("it is denied again", w.say, "")
	w.allow("ledger", api.IntentionActionAllow)
	w.until("and allowed", w.say, "hello\n")
	stand.Figure(t, "ledger's intention withdrawn and given back: %v handshakes were denied", denied()-before)

	// The names that the gateways have in their meshes.
	for _, g := range []*stand.Gateway{east, west} {
		if n := metric(t, g, "isthmus_gateway_mesh_identity_renewal_overdue"); n != 0 {
			t.Errorf("%s: an identity is late", g.Process.Name)
		}
	}
	if n := metric(t, east, "isthmus_gateway_mesh_identity_not_after_seconds", `service="billing"`); n == 0 {
		t.Error("no certificate of billing")
	}
	t.Run("new leaves cut nothing", w.leavesChange)
	t.Run("a gateway starts without consul", w.consulDies)
	t.Run("new roots cut nothing", w.rootsChange)
	t.Run("who is of no mesh is refused", w.refusals)
}

// errNot is for conditions that say no more than that.
var errNot = errors.New("not yet")
