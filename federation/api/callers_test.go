package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

func TestCallers(t *testing.T) {
	s := newStand(t)
	for query, want := range map[string]struct {
		service string
		window  time.Duration
	}{
		"": {"web.default", time.Hour}, "?service=db.shop&since=15m": {"db.shop", 15 * time.Minute}, "?since=1h": {"web.default", time.Hour},
	} {
		answer := s.ask(t, http.MethodGet, "/v1/callers"+query, "")
		var got resource.Callers
		if err := json.Unmarshal([]byte(answer.body), &got); err != nil || answer.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, answer.status, answer.body)
		}
		if got.Window != want.window || got.Total != 1 || got.Items[0].Service.String() != want.service || got.Items[0].Count != 3 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, query := range []string{"?since=2h", "?since=0s", "?since=-5m", "?since=soon", "?service=Not.A.Name"} {
		if answer := s.ask(t, http.MethodGet, "/v1/callers"+query, ""); answer.status != http.StatusUnprocessableEntity && answer.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, answer.status, answer.body)
		}
	}
}
