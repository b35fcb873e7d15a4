package federation_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// The history outlives restarts, holds what the file said and what was asked for,
// and the journal names the cause of every change.
func TestHistoryOverRestartsReloadsAndDamage(t *testing.T) {
	t.Parallel()
	w := newWAN()
	c := newCluster(t, w, "east")
	c.config.Exports = []policy.Export{{Name: "file", Services: []policy.ServicePattern{"web.default"}, To: []string{"*"}}}
	c.source.publish(service("web.shop", 2))
	c.start()
	ctx := t.Context()
	shop := resource.Export{Export: policy.Export{Name: "shop", Services: []policy.ServicePattern{"*.shop"}, To: []string{"*"}}}
	if _, err := c.api.Exports().Create(ctx, shop, false); err != nil {
		t.Fatal(err)
	}
	was, err := c.api.Exports().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := c.loaded
	next.Exports = []policy.Export{{Name: "file", Services: []policy.ServicePattern{"api.default"}, To: []string{"*"}}}
	if err := c.fed.Reload(ctx, next); err != nil {
		t.Fatal(err)
	}
	if err := c.api.Exports().Delete(ctx, "shop", "", false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the journal names causes", func() bool {
		events, err := c.api.Events().List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		has := func(kind, cause, subject, reason string) bool {
			return slices.ContainsFunc(events, func(e resource.Event) bool {
				return e.Kind == kind && e.Cause == cause && e.Subject == subject && strings.Contains(e.Reason, reason)
			})
		}
		return has("policy_changed", "rule", "exports/shop", "delete by local") &&
			has("policy_changed", "rule", "exports/file", "replace by config") &&
			has("catalog_changed", "source", "registry", "endpoints 0 -> 2: new web.shop")
	})

	// A damaged store is rebuilt whole, and said to have been.
	c.stop()
	path := filepath.Join(c.config.DataDir, "store.db")
	if err := os.WriteFile(path, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.config.Exports = next.Exports
	c.start()
	records, err := c.api.History(client.HistoryFilter{}).List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Principal[:5]+" "+r.Action+" "+r.Name)
	}
	if want := []string{"confi create file", "local create shop", "confi replace file", "local delete shop"}; !slices.Equal(got, want) {
		t.Fatalf("history %q, want %q", got, want)
	}
	then, err := c.api.Exports().AsOf("2").List(ctx)
	if err != nil || !reflect.DeepEqual(then, was) {
		t.Errorf("exports as of 2: %+v, %v; were %+v", then, err, was)
	}
	if v, err := c.api.VerifyHistory(ctx); err != nil || !v.OK {
		t.Errorf("VerifyHistory = %+v, %v", v, err)
	}
	version, err := c.api.Version(ctx)
	if err != nil || len(version.Degraded) != 1 || !strings.Contains(version.Degraded[0], path+".damaged-1") {
		t.Errorf("degraded: %q, %v", version.Degraded, err)
	}
	eventually(t, "the metric says so", func() bool {
		n, ok := c.gauge("isthmus_federation_degraded", nil)
		return ok && n == 1
	})
	if _, err := c.api.RevertTo(ctx, "2", false); err != nil {
		t.Fatal(err)
	}
	if back, err := c.api.Exports().Get(ctx, "shop"); err != nil || back.Services[0] != "*.shop" {
		t.Errorf("after the revert: %+v, %v", back, err)
	}
}
