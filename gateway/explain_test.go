package gateway_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// calls asks a gateway's admin listener for the calls that it kept.
func (n *node) calls(query string) (found []route.Trail) {
	t := n.cluster.world.t
	t.Helper()
	status, body := n.admin("/debug/calls?" + query)
	var answer struct {
		Trails []route.Trail `json:"trails"`
	}
	if err := json.Unmarshal(body, &answer); status != http.StatusOK || err != nil {
		t.Fatalf("/debug/calls?%s: %d %v: %s", query, status, err, body)
	}
	return answer.Trails
}

// kept waits for one trail that fits: a call ends a moment after its answer.
func (n *node) kept(query string) (found []route.Trail) {
	t := n.cluster.world.t
	t.Helper()
	eventually(t, "the call is kept", func() error {
		if found = n.calls(query); len(found) == 0 {
			return fmt.Errorf("no trail of %s at %s", query, n.cluster.name)
		}
		return nil
	})
	return found
}

// ask makes a request with fields, and returns the answer's status, ID and body.
func ask(t *testing.T, c *http.Client, url string, fields map[string]string) (status int, id, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	status, header, body := do(t, c, req)
	if n := len(header["X-Request-Id"]); n != 1 {
		t.Errorf("the answer has %d request IDs: %v", n, header["X-Request-Id"])
	}
	return status, header.Get("X-Request-Id"), body
}

// TestARealCallIsExplainedByItsIDs: a call that was refused by one cluster and
// answered by another is found at the gateways of all three by its trace ID, each
// with its own part, and the decisions are the real ones.
func TestARealCallIsExplainedByItsIDs(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	w.cluster("beta").host("billing", catalog.HTTP, dead.Addr())
	w.cluster("gamma").host("billing", catalog.HTTP, httpServer(t, who("gamma")))
	w.cluster("alpha").traffic = map[string]*policy.Traffic{"billing": {
		Name: "order", Services: []policy.ServicePattern{"billing.default"}, Clusters: []catalog.ClusterName{"beta", "gamma"},
	}}
	near := w.cluster("alpha").gateway("gw1")
	beta, gamma := w.cluster("beta").gateway("gw1"), w.cluster("gamma").gateway("gw1")
	for _, n := range []*node{near, beta, gamma} {
		n.config.Explain.Share = new(0.0)
	}
	w.start()

	// Until beta's health check has found out, calls are refused there first.
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	status, id, body := ask(t, near.client(), "http://billing.default.mesh/", map[string]string{
		"Traceparent": "00-" + trace + "-00f067aa0ba902b7-01", "X-Request-Id": "order-7", "Accept-Encoding": "identity",
	})
	if status != http.StatusOK || id != "order-7" || parse(t, body).Fields.Get("X-Request-Id") != "order-7" {
		t.Fatalf("%d, request %q: %s", status, id, body)
	}
	if got := parse(t, body).Fields.Get("Traceparent"); got != "00-"+trace+"-00f067aa0ba902b7-01" {
		t.Errorf("the service was told of trace %q", got)
	}
	found := near.kept("trace=" + trace)
	if len(found) != 1 {
		t.Fatalf("%d trails at the near gateway", len(found))
	}
	call := found[0]
	last := call.Attempts[len(call.Attempts)-1]
	if call.Reason != "ok" || call.Status != 200 || call.RequestID != "order-7" || call.Way != "http" || call.Caller != w.cluster("alpha").caller() ||
		last.Cluster != "gamma" || last.Gateway != "gw1" || last.Outcome != "ok" || last.Took <= 0 {
		t.Errorf("%+v", call)
	}
	for i, a := range call.Attempts {
		if !a.Exact || a.Ledger == nil || a.Ledger.Choice == nil || a.Ledger.Choice.Cluster != a.Cluster || a.Ledger.Why == "" {
			t.Errorf("attempt %d: %+v", i, a)
		}
	}
	if len(call.Attempts) == 2 {
		first := call.Attempts[0]
		if call.Kept != route.KeptRetried || first.Cluster != "beta" || first.Outcome == "ok" || first.Error == "" {
			t.Errorf("the first attempt: %+v", first)
		}
		if there := beta.kept("trace=" + trace); len(there) != 1 || there[0].Kept != route.KeptFailed || there[0].Peer != "alpha" ||
			len(there[0].Attempts) == 0 || !there[0].Attempts[0].Exact || there[0].Attempts[0].Endpoint != "beta-billing-1" {
			t.Errorf("beta's part: %+v", there)
		}
	}
	there := gamma.kept("request=order-7")
	if len(there) != 1 || there[0].TraceID != trace || there[0].Kept != route.KeptTraced || there[0].PeerGateway != "gw1" || there[0].Way != "request" ||
		len(there[0].Attempts) != 1 || !there[0].Attempts[0].Exact || there[0].Attempts[0].Endpoint != "gamma-billing-1" || !there[0].Attempts[0].Ledger.Request.Inbound {
		t.Errorf("gamma's part: %+v", there)
	}

	// What is neither traced nor of the share leaves nothing, but has an ID.
	_, id, _ = ask(t, near.client(), "http://billing.default.gamma.mesh/", map[string]string{"X-Request-Id": "two words"})
	if len(id) != 32 || len(near.calls("request="+id)) != 0 {
		t.Errorf("request %q, %d trails", id, len(near.calls("request="+id)))
	}
	// What fails is kept, also where nothing was there to choose.
	status, id, _ = ask(t, near.client(), "http://nobody.default.mesh/", nil)
	found = near.kept("request=" + id)
	if status != http.StatusNotFound || len(found) != 1 || found[0].Kept != route.KeptFailed || found[0].Reason != "unknown_service" {
		t.Errorf("%d: %+v", status, found)
	}
	for _, bad := range []string{"trace=xyz", "request=a+b%22", "limit=0", "limit=101", "before=x", "service=.."} {
		if status, _ := near.admin("/debug/calls?" + bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if n := near.metric("isthmus_gateway_trails_inexact_total"); n != 0 {
		t.Errorf("%v decisions came out otherwise", n)
	}
}

// TestTheShareIsKeptOnBothSides: an ordinary call that the near gateway samples is
// kept by the far one too, under the same trace, and a flood keeps within its bounds.
func TestTheShareIsKeptOnBothSides(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("billing", catalog.HTTP, httpServer(t, who("billing")))
	near, far := w.cluster("alpha").gateway("gw1", "billing"), w.cluster("beta").gateway("gw1")
	near.config.Explain.Share, near.config.Explain.Records = new(1.0), 40
	far.config.Explain.Share = new(0.0)
	w.start()
	const n = 100
	for i := range n {
		if status, _, _ := ask(t, near.client(), "http://billing.default.mesh/", map[string]string{"X-Request-Id": fmt.Sprint("n-", i)}); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	eventually(t, "all are accounted for", func() error {
		dropped := near.metric("isthmus_gateway_trails_dropped_total", "reason=rate")
		if sampled := near.metric("isthmus_gateway_trails_kept_total", "reason=sampled"); sampled+dropped != n {
			return fmt.Errorf("%v kept and %v dropped of %d", sampled, dropped, n)
		}
		return nil
	})
	kept := near.calls("")
	if len(kept) < 2 || len(kept) > 40 {
		t.Fatalf("%d trails of %d calls", len(kept), n)
	}
	eventually(t, "the far gateway has them too", func() error {
		for _, call := range kept {
			there := far.calls("trace=" + call.TraceID)
			if call.Kept != route.KeptSampled || len(there) != 1 || there[0].RequestID != call.RequestID || there[0].Kept != route.KeptTraced {
				return fmt.Errorf("%+v is %+v there", call, there)
			}
		}
		return nil
	})
	// A connection has a trace of the gateways' own.
	callByTCP(t, near, 0, "By="+w.cluster("beta").id()+"/gateway/gw1;URI="+w.cluster("alpha").caller())
	for _, call := range near.calls("") {
		if call.Way == "tcp" && (call.TraceID == "" || !call.Attempts[0].Exact) {
			t.Errorf("%+v", call)
		}
	}
}
