package guides_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
)

const europe = "gcp-europe-west1"

// systemctl does to the processes of a stand, UNIT_PIDS, what systemd does to those of
// the unit. It starts none: the stand does.
const systemctl = `#!/bin/bash
case "$*" in
"stop isthmus") signal=TERM ;;
"kill --signal=SIGKILL isthmus") signal=KILL ;;
"start isthmus") exit ;;
*) echo "systemctl $*: not in this test" >&2; exit 2 ;;
esac
for pid in $UNIT_PIDS; do kill -$signal "$pid" 2>/dev/null; done
for pid in $UNIT_PIDS; do while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done; done
`

// region is the cluster that dies.
type region struct {
	*stand.Cluster
	t    *testing.T
	host *guide.Host
	// at is its instance of billing, end kills it.
	at  string
	end func()
}

// on is a host of the region with these processes.
func (r *region) on(processes ...*stand.Process) *guide.Host {
	h := *r.host
	var pids []string
	for _, p := range processes {
		pids = append(pids, fmt.Sprint(p.PID()))
	}
	h.Env = append(slices.Clip(h.Env), "UNIT_PIDS="+strings.Join(pids, " "))
	return &h
}

// serve starts the instance of billing, where it was before.
func (r *region) serve() {
	r.at, r.end = instance(r.t, r.at, r.Name)
	r.WriteCatalog(r.t, stand.Service{Name: "billing", Port: "http", Protocol: "http", Addresses: []string{r.at}})
}

// start starts all of it.
func (r *region) start(g *guide.Guide) {
	g.Run("start", r.host)
	r.Federation.Start()
	for _, gw := range r.Gateways {
		gw.Start()
	}
	for _, gw := range r.Gateways {
		gw.AwaitReady()
	}
}

func TestRehearseARegionsDeath(t *testing.T) {
	unit := filepath.Join(t.TempDir(), "systemctl")
	if err := os.WriteFile(unit, []byte(systemctl), 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	g := guide.Read(t, "rehearse-a-regions-death.md", stand.Binary(t), unit)
	s := stand.New(t,
		stand.Spec{Name: aws, Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "aws.example.org"},
		stand.Spec{Name: gcp, Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: "gcp.example.org", Gateways: 2},
		stand.Spec{Name: europe, Cloud: "gcp", Region: "europe-west1", Zone: "c", TrustDomain: "gcp.example.org"},
	)
	home := s.Clusters[0]
	// The default would take minutes to bring calls back. What a returning region is to
	// be held for, at the least, is that this side has dialed it again.
	home.Gateways[0].Section()["fail_back"] = stand.Object{"hold": "5s", "step": 0.25, "interval": "500ms"}
	// Both regions are to be seen at work. Without a policy the nearer one would be
	// asked alone where the other is measurably farther, and on a busy machine one is.
	// The page's policy, of the same services, holds while it is there: its name is before
	// this one's.
	home.Section()["traffic_policies"] = []any{stand.Object{"name": "share", "services": []any{"*"}, "weights": stand.Object{gcp: 1, europe: 1}}}
	operator := host(t, s, home)
	operator.Replace = append(operator.Replace, "127.0.0.1:7481", home.Gateways[0].Admin.String())
	dying := &region{Cluster: s.Clusters[1], t: t, host: host(t, s, s.Clusters[1]), at: "127.0.0.1:0"}
	other := &region{Cluster: s.Clusters[2], t: t, at: "127.0.0.1:0"}
	dying.serve()
	other.serve()
	s.Start()
	call := home.Calls(t).To("billing.default.mesh")
	settles(t, "both regions answer", call, gcp, europe)
	prints(t, g, "before", operator, gcp+" 1/1")
	prints(t, g, "watch", operator, `isthmus_gateway_requests_total{cluster="`+gcp+`",reason="ok",service="billing.default"`)

	load := stand.StartLoad(t.Context(), perSecond, patience, call)
	phase := time.Now()
	// seen closes a step: it prints what callers saw, and returns the share of calls
	// that were answered.
	seen := func(what string) float64 {
		t.Helper()
		stand.Eventually(t, within, "all calls are answered or have failed", func() error {
			if n := int(time.Since(phase).Seconds()*perSecond) - len(load.Sofar().Between(phase, time.Now())); n > perSecond {
				return fmt.Errorf("%d are under way", n)
			}
			return nil
		})
		rs := load.Sofar().Between(phase, time.Now())
		stand.Figure(t, "%s: %d calls, success %.2f %%, %d failed, longest time without an answer %d ms, p99 %d ms", what, len(rs),
			100*rs.Success(), len(rs.Failed()), rs.LongestGap().Milliseconds(), rs.Quantile(0.99).Milliseconds())
		if len(rs.Failed()) > 0 {
			t.Logf("%s: failed: %s", what, rs.Errors())
		}
		phase = time.Now()
		return rs.Success()
	}

	if out := g.Run("plan", operator); !strings.Contains(out, "rehearsal") {
		t.Errorf("the dry run says %s", out)
	}
	g.Run("apply", operator)
	settles(t, "the region is out by policy", call, europe)
	if got := share(t, load, gcp); got != 0 {
		t.Errorf("%.2f of the calls are answered by what is out", got)
	}
	g.Run("abort", operator)
	settles(t, "and back", call, gcp, europe)
	share(t, load, gcp) // calls are made for a while
	if seen("on paper") < 1 {
		t.Error("calls failed while the region was out by policy")
	}

	g.Run("drain", dying.on(dying.Gateways[0].Process))
	g.Run("drain", dying.on(dying.Gateways[1].Process, dying.Federation))
	settles(t, "the region has drained", call, europe)
	prints(t, g, "watch", operator, "! peer "+gcp)
	dying.start(g)
	settles(t, "it returns", call, gcp, europe)
	share(t, load, gcp)
	if seen("in order") < 1 {
		t.Error("calls failed while the region's gateways drained")
	}

	dying.end()
	g.Run("kill", dying.on(dying.Federation, dying.Gateways[0].Process, dying.Gateways[1].Process))
	settles(t, "the region is dead", call, europe)
	prints(t, g, "watch", operator, "! peer "+gcp)
	share(t, load, gcp)
	if got := seen("by force"); got < 0.99 {
		t.Errorf("success %.4f when the region was killed", got)
	}
	dying.serve()
	dying.start(g)
	alive := time.Now()
	settles(t, "it is alive", call, gcp, europe)
	stand.Figure(t, "the region is given calls again %.1f s after its gateways are ready (held for 5 s)", time.Since(alive).Seconds())
	share(t, load, gcp)
	if seen("the region returns") < 1 {
		t.Error("calls failed when the region returned")
	}
	load.Stop()
	stand.Eventually(t, within, "all is as it was", func() error {
		out, err := g.Try("after", operator)
		if err == nil && (strings.Contains(out, "! peer") || !strings.Contains(out, "rehearsal: "+gcp+" is out")) {
			err = fmt.Errorf("printed %s", out)
		}
		return err
	})
}
