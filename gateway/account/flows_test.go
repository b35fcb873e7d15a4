package account_test

import (
	"math"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func flowOf(t *testing.T, a *account.Account, cluster catalog.ClusterName) route.Flow {
	t.Helper()
	for _, f := range a.Flows() {
		if f.Cluster == cluster {
			return f
		}
	}
	t.Fatalf("no flow to %s: %+v", cluster, a.Flows())
	return route.Flow{}
}

// Bytes and what they cost are counted while a connection is open, those that moved
// before it was known who serves it too, each once.
func TestBytesOfAPathAreCountedAsTheyMove(t *testing.T) {
	a, registry, _ := newAccount(t, account.LogOff)
	a.SetServices(services("web"))
	e := a.Begin(account.WayTCP)
	e.Service, e.Port = catalog.MustServiceName("web"), "http"
	sent, received := e.Counters()
	sent.Add(1000)
	e.Serve("beta", route.Price{Out: 0.09, In: 0.12, Known: true})
	sent.Add(1e9 - 1000)
	received.Add(5e8)
	f := flowOf(t, a, "beta")
	if f.Sent != 1e9 || f.Received != 5e8 || math.Abs(f.SpentOut-0.09) > 1e-9 || math.Abs(f.SpentIn-0.06) > 1e-9 || f.Calls != 0 || f.Unpriced != 0 {
		t.Errorf("while it is open: %+v", f)
	}
	// Another attempt elsewhere, where nothing has a price.
	e.Serve("gamma", route.Price{})
	received.Add(100)
	e.Cluster = "gamma"
	e.Answered()
	e.End()
	if f := flowOf(t, a, "beta"); f.Sent != 1e9 || f.Received != 5e8 || f.Calls != 0 {
		t.Errorf("of the first: %+v", f)
	}
	if f := flowOf(t, a, "gamma"); f.Sent != 0 || f.Received != 100 || f.SpentIn != 0 || f.Unpriced != 100 || f.Calls != 1 || f.Answered != 1 {
		t.Errorf("of the second: %+v", f)
	}
	want := `
# HELP isthmus_gateway_path_bytes_total Payload of this cluster's callers by the cluster that serves them, counted as it moves: sent is from the caller to the service.
# TYPE isthmus_gateway_path_bytes_total counter
isthmus_gateway_path_bytes_total{cluster="beta",direction="received",service="web.default"} 5e+08
isthmus_gateway_path_bytes_total{cluster="beta",direction="sent",service="web.default"} 1e+09
isthmus_gateway_path_bytes_total{cluster="gamma",direction="received",service="web.default"} 100
isthmus_gateway_path_bytes_total{cluster="gamma",direction="sent",service="web.default"} 0
# HELP isthmus_gateway_unpriced_bytes_total Payload of paths of which the price book has no price.
# TYPE isthmus_gateway_unpriced_bytes_total counter
isthmus_gateway_unpriced_bytes_total{cluster="beta",service="web.default"} 0
isthmus_gateway_unpriced_bytes_total{cluster="gamma",service="web.default"} 100
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "isthmus_gateway_path_bytes_total", "isthmus_gateway_unpriced_bytes_total"); err != nil {
		t.Error(err)
	}
	// What a peer's gateway brings is the peer's to pay, and strangers are nobody's.
	for way, service := range map[string]string{account.WayStream: "web", account.WayHTTP: "stranger"} {
		e := a.Begin(way)
		e.Service, e.Cluster = catalog.MustServiceName(service), "delta"
		e.Serve("delta", route.Price{Known: true})
		s, _ := e.Counters()
		s.Add(10)
		e.End()
	}
	for _, f := range a.Flows() {
		if f.Cluster == "delta" {
			t.Errorf("%+v is counted", f)
		}
	}
	a.SetServices(services())
	if left := a.Flows(); len(left) != 0 {
		t.Errorf("of a service that left: %+v", left)
	}
}

// However small the pieces, the sum is that of the whole to a thousandth.
func TestSmallPiecesCostTheirPart(t *testing.T) {
	a, _, _ := newAccount(t, account.LogOff)
	a.SetServices(services("web"))
	e := a.Begin(account.WayHTTP)
	e.Service, e.Cluster = catalog.MustServiceName("web"), "beta"
	e.Serve("beta", route.Price{Out: 0.0137, Known: true})
	sent, _ := e.Counters()
	for range 100_000 {
		sent.Add(37)
	}
	e.End()
	if want, got := 37*1e5*0.0137/1e9, flowOf(t, a, "beta").SpentOut; math.Abs(got/want-1) > 1e-3 {
		t.Errorf("%v dollars, want %v", got, want)
	}
}
