package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func TestExplainPassesTheQuestionOn(t *testing.T) {
	s := newStand(t)
	want := resource.ExplainQuery{
		Service: catalog.MustServiceName("web"), Port: "http", Pin: "west", From: "north", Gateway: "gw-1",
	}
	got, err := s.tcp.Explain(t.Context(), want)
	if err != nil || got.Gateway != "gw-1" {
		t.Fatalf("Explain = %+v, %v", got, err)
	}
	if asked := s.backend.asked.Load(); *asked != want {
		t.Errorf("asked %+v, want %+v", *asked, want)
	}
	bad := s.ask(t, "GET", "/v1/explain?service=Web&pin=X&from=a.b", "")
	p := bad.problem(t)
	if bad.status != http.StatusUnprocessableEntity || len(p.Errors) != 3 || p.Errors[0].Location != "query.service" {
		t.Errorf("explain with three bad parameters = %s", bad.body)
	}
}

func TestExplainSaysWhyNot(t *testing.T) {
	s := newStand(t)
	for reason, status := range map[api.ExplainReason]int{
		api.UnknownCluster: 404, api.UnknownGateway: 404, api.NoGateway: 503, api.PeerUnreachable: 503,
	} {
		s.backend.explain.Store(&api.ExplainError{Reason: reason, Cluster: "west", Err: errors.New("because")})
		_, err := s.tcp.Explain(t.Context(), resource.ExplainQuery{Service: catalog.MustServiceName("web")})
		var se *client.StatusError
		if !errors.As(err, &se) || se.Status != status || se.Code() != string(reason) || !strings.Contains(se.Error(), "because") {
			t.Errorf("%s: %v, want status %d", reason, err, status)
		}
	}
}

func TestCallsPassTheQuestionOn(t *testing.T) {
	s := newStand(t)
	want := resource.CallQuery{
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", RequestID: "Root=1-2/x+y@z", Service: catalog.MustServiceName("web"), Gateway: "gw-1", Limit: 7,
	}
	got, err := s.tcp.Calls(t.Context(), want)
	if err != nil || len(got.Trails) != 1 || got.Trails[0].TraceID != want.TraceID || got.Trails[0].RequestID != want.RequestID ||
		!got.Trails[0].Attempts[0].Exact || got.Trails[0].Attempts[0].Ledger.Why != "because" {
		t.Fatalf("Calls = %+v, %v", got, err)
	}
	if asked := s.backend.calls.Load(); *asked != want {
		t.Errorf("asked %+v, want %+v", *asked, want)
	}
	for _, bad := range []string{"trace=4BF92F3577B34DA6A3CE929D0E0E4736", "trace=1", "request=a%0Ab", "service=Web", "limit=0", "limit=101"} {
		if got := s.ask(t, "GET", "/v1/calls?"+bad, ""); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, got.status, got.body)
		}
	}
	s.backend.explain.Store(&api.ExplainError{Reason: api.NoGateway, Cluster: "east"})
	var se *client.StatusError
	if _, err := s.tcp.Calls(t.Context(), want); !errors.As(err, &se) || se.Status != http.StatusServiceUnavailable {
		t.Errorf("Calls without a gateway = %v", err)
	}
}

func TestRelease(t *testing.T) {
	s := newStand(t)
	if n, err := s.socketed.Release(t.Context(), "consul"); err != nil || n != 3 {
		t.Errorf("Release = %d, %v", n, err)
	}
	var se *client.StatusError
	if _, err := s.socketed.Release(t.Context(), "nomad"); !errors.As(err, &se) || se.Status != http.StatusNotFound {
		t.Errorf("Release of an unknown source = %v", err)
	}
}

func TestClientOptions(t *testing.T) {
	for _, bad := range []client.Options{
		{},
		{Socket: "/run/x.sock", URL: "http://127.0.0.1:1"},
		{URL: "https://127.0.0.1:1"},
		{URL: "http://10.0.0.1:7480"},
		{URL: "http://federation.example:7480"},
		{URL: "http://127.0.0.1:1/v1"},
		{URL: "127.0.0.1:7480"},
	} {
		if _, err := client.New(bad); err == nil {
			t.Errorf("New(%+v) was accepted", bad)
		}
	}
}
