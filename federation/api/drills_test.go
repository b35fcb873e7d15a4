package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

func TestDrills(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	good := resource.DrillRequest{Down: []string{"west"}, Share: "5%", For: "1m"}
	planned, err := s.tcp.StartDrill(ctx, good, true)
	if err != nil || planned.State != resource.DrillPlanned || planned.Simulation == nil {
		t.Fatalf("%+v, %v", planned, err)
	}
	d, err := s.tcp.StartDrill(ctx, good, false)
	if err != nil || d.State != resource.DrillRunning || d.Share != 5 {
		t.Fatalf("%+v, %v", d, err)
	}
	if got := s.ask(t, "POST", "/v1/drills", `{"down":["west"],"share":"5%","for":"1m"}`); got.status != http.StatusConflict || !strings.Contains(got.body, "drill-runs") {
		t.Errorf("a second drill: %+v", got)
	}
	if list, err := s.tcp.Drills(ctx); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if got, err := s.tcp.StopDrill(ctx, d.ID); err != nil || got.Report.Split[0].Cluster != "north" {
		t.Errorf("%+v, %v", got, err)
	}
	if got := s.ask(t, "GET", "/v1/drills/none", ""); got.status != http.StatusNotFound {
		t.Errorf("a drill that is not: %+v", got)
	}
	for field, body := range map[string]string{
		"body.share":    `{"down":["west"],"share":"20%","for":"1m"}`,
		"body.down":     `{"share":"5%","for":"1m"}`,
		"body.for":      `{"down":["west"],"share":"5%","for":"1s"}`,
		"body.zones[0]": `{"zones":["aws/a"],"share":"5%","for":"1m"}`,
	} {
		if got := s.ask(t, "POST", "/v1/drills", body); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, field) {
			t.Errorf("%s: %+v", body, got)
		}
	}
}
