package federation_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// TestADryRunSaysWhoWouldBeJudgedDifferently: what gateways saw is listed, and the dry
// run of an intention names the callers that it would turn away.
func TestADryRunSaysWhoWouldBeJudgedDifferently(t *testing.T) {
	ctx := t.Context()
	east := newCluster(t, newWAN(), "east")
	east.start()
	gw := east.gateway("gw-1")
	east.source.publish(service("web.shop", 1), service("db.shop", 1))
	eventually(t, "own services are worked out", func() bool {
		list, err := east.api.Services().List(ctx)
		return err == nil && len(list) == 2
	})
	rule := resource.Intention{Intention: policy.Intention{
		Name: "open", Services: []policy.ServicePattern{"web.shop"}, Callers: []policy.IDPattern{"spiffe://west.test/*"}, Action: policy.Allow,
	}}
	made, err := east.api.Intentions().Create(ctx, rule, false)
	if err != nil {
		t.Fatal(err)
	}
	web := catalog.MustServiceName("web.shop")
	at := time.Now().Add(-10 * 365 * 24 * time.Hour) // the gateway's clock is years behind: ages count
	gw.mu.Lock()
	gw.callers = append(gw.callers, []route.Sighting{
		{SightingKey: route.SightingKey{Service: web, Caller: "spiffe://west.test/a", Peer: "west", Allowed: true, Reason: "allowed", Rule: "open"}, Count: 5, LastSeen: time.Now()},
		{SightingKey: route.SightingKey{Service: web, Caller: "spiffe://west.test/b", Peer: "west", Allowed: true, Reason: "allowed", Rule: "open"}, Count: 2, LastSeen: time.Now()},
		{SightingKey: route.SightingKey{Service: catalog.MustServiceName("db.shop"), Caller: "spiffe://east.test/web", Allowed: true, Reason: "allowed"}, Count: 1, LastSeen: at},
		{SightingKey: route.SightingKey{Service: catalog.MustServiceName("db.shop"), Caller: "spiffe://east.test/now", Allowed: true, Reason: "allowed"}, Count: 1, LastSeen: time.Now()},
	}...)
	gw.mu.Unlock()
	eventually(t, "the callers are listed", func() bool {
		all, err := east.api.Callers(ctx, catalog.ServiceName{}, 0)
		return err == nil && all.Total >= 3
	})
	some, err := east.api.Callers(ctx, web, 15*time.Minute)
	if err != nil || some.Total != 2 || some.Items[0].Caller != "spiffe://west.test/a" || some.Items[0].Count != 5 || time.Since(some.Items[0].LastSeen) > time.Minute {
		t.Errorf("%+v, %v", some, err)
	}

	rule.Callers = []policy.IDPattern{"spiffe://west.test/b"}
	would, err := east.api.Intentions().TryReplace(ctx, "open", rule, made.ETag)
	if err != nil {
		t.Fatal(err)
	}
	if i := would.Would; i.CallersTotal != 1 || i.Callers[0].Caller != "spiffe://west.test/a" || i.Callers[0].Before != "allow" || i.Callers[0].BeforeRule != "open" ||
		i.Callers[0].After != "deny" || i.Callers[0].Cluster != "west" || i.Callers[0].Calls != 5 {
		t.Errorf("%+v", i)
	}
	// A caller of the own cluster stands there with the own cluster's name.
	closed := resource.Intention{Intention: policy.Intention{Name: "closed", Services: []policy.ServicePattern{"db.shop"}, Callers: []policy.IDPattern{"spiffe://east.test/*"}, Action: policy.Deny}}
	own, err := east.api.Intentions().TryCreate(ctx, closed)
	if err != nil || own.Would.CallersTotal != 1 || own.Would.Callers[0].Caller != "spiffe://east.test/now" || own.Would.Callers[0].Cluster != "east" {
		t.Errorf("%+v, %v", own.Would, err)
	}
	gone, err := east.api.Intentions().TryDelete(ctx, "open", made.ETag)
	if err != nil || gone.CallersTotal != 2 || gone.ServicesTotal != 1 || gone.Services[0].Fields[0] != resource.FieldDefaultAllow {
		t.Errorf("%+v, %v", gone, err)
	}
	// Nothing was written.
	now, err := east.api.Intentions().List(ctx)
	if err != nil || len(now) != 1 || now[0].Callers[0] != "spiffe://west.test/*" {
		t.Errorf("%+v, %v", now, err)
	}
}
