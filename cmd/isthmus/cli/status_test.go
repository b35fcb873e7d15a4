package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// TestStatusTellsReplicas: several federations are shown with the exporter, one
// alone is no news, and none that speaks to peers is a trouble.
func TestStatusTellsReplicas(t *testing.T) {
	one := resource.Replica{Name: "fed1", Address: "10.0.0.1:7483", Self: true, Exporter: true, StartedAt: time.Now()}
	two := resource.Replica{Name: "fed2", Address: "10.0.0.2:7483", StartedAt: time.Now()}
	heads := func(s status) (out []string) {
		for _, r := range s.rows() {
			if len(r) > 1 {
				out = append(out, r[0]+" "+r[1])
			}
		}
		return out
	}
	for _, tt := range []struct {
		name     string
		replicas []resource.Replica
		shown    []string
		trouble  bool
	}{
		{"one", []resource.Replica{one}, nil, false},
		{"two", []resource.Replica{one, two}, []string{"FEDERATION ROLE", "fed1 (asked) exporter", "fed2 replica"}, false},
		{"no exporter", []resource.Replica{two}, nil, true},
		{"not told", nil, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := status{Replicas: tt.replicas, Gateways: []resource.Gateway{{Name: "gw1", State: "alive"}}}
			got := heads(s)
			at := slices.Index(got, "FEDERATION ROLE")
			switch {
			case tt.shown == nil && at >= 0:
				t.Errorf("shown: %q", got)
			case tt.shown != nil && (at < 0 || !slices.Equal(got[at:], tt.shown)):
				t.Errorf("got %q, want it to end in %q", got, tt.shown)
			}
			if trouble := strings.Join(s.troubles(), "; "); strings.Contains(trouble, "exporter") != tt.trouble {
				t.Errorf("troubles %q", trouble)
			}
		})
	}
}

// TestStatusTellsWhatReadyzTells: a store that takes no writes and a bundle endpoint
// that fails are troubles, though everything is served.
func TestStatusTellsWhatReadyzTells(t *testing.T) {
	s := status{
		Ready:    resource.Readiness{Reasons: []string{"store: takes no writes"}, Degraded: []string{"store.db was damaged"}},
		Gateways: []resource.Gateway{{Name: "gw1", State: "alive"}},
		Peers: []resource.Peer{{
			Name: "west", State: resource.PeerOK,
			Trust: &resource.PeerTrust{Held: true, Endpoint: &resource.EndpointStatus{State: "failing", Error: "refused"}},
		}},
	}
	got := s.troubles()
	want := []string{
		"federation not ready: store: takes no writes", "federation degraded: store.db was damaged",
		"peer west: bundle endpoint fails, last good answer never: refused",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCallersInWords: what is only the beginning of a path, a connection without
// requests and a denial are told apart.
func TestCallersInWords(t *testing.T) {
	rows := callerRows([]route.Sighting{
		{SightingKey: route.SightingKey{Caller: "spiffe://a.test/web", Peer: "west", Method: "GET", Path: "/v1/", Prefix: true, Allowed: true, Reason: "allowed", Rule: "r1"}, Count: 3},
		{SightingKey: route.SightingKey{Caller: "spiffe://a.test/web", Reason: "default_deny"}, Count: 1},
	})
	want := [][]string{{"west", "GET /v1/*", "allowed", "r1", "3"}, {"-", "-", "denied (default_deny)", "-", "1"}}
	for i, w := range want {
		if got := rows[i+1][2:7]; !slices.Equal(got, w) {
			t.Errorf("row %d: %q, want %q", i, got, w)
		}
	}
}
