package api_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

func TestAppliedSets(t *testing.T) {
	s := newStand(t)
	body := `{"name":"a","services":["web.default"],"to":["west"]}`
	if got := s.ask(t, "POST", "/v1/exports", body); got.status != http.StatusCreated {
		t.Fatalf("create: %d %s", got.status, got.body)
	}
	if got := s.ask(t, "PUT", "/v1/applied/prod/exports/a", body); got.status != http.StatusNoContent {
		t.Fatalf("remember: %d %s", got.status, got.body)
	}
	set := func() resource.AppliedSet {
		t.Helper()
		got := s.ask(t, "GET", "/v1/applied/prod", "")
		var set resource.AppliedSet
		if err := json.Unmarshal([]byte(got.body), &set); err != nil || got.status != http.StatusOK {
			t.Fatalf("%d %s: %v", got.status, got.body, err)
		}
		return set
	}
	if got := set(); len(got.Rules) != 1 || got.Rules[0].Kind != "exports" || got.Rules[0].Name != "a" {
		t.Errorf("the set applied %+v", got)
	}
	if got := s.ask(t, "DELETE", "/v1/applied/prod/exports/a", ""); got.status != http.StatusNoContent {
		t.Errorf("forget: %d %s", got.status, got.body)
	}
	if got := set(); len(got.Rules) != 0 {
		t.Errorf("after forgetting, the set applied %+v", got)
	}
	if got := s.ask(t, "GET", "/v1/exports/a", ""); got.status != http.StatusOK {
		t.Errorf("the rule itself: %d", got.status)
	}
	for _, name := range []string{"Prod", "a_b", "-a", "a~b"} {
		if got := s.ask(t, "PUT", "/v1/applied/"+name+"/exports/a", body); got.status != http.StatusUnprocessableEntity {
			t.Errorf("set %q: %d, want 422", name, got.status)
		}
	}
	if got := s.ask(t, "PUT", "/v1/applied/prod/secrets/a", body); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an unknown kind: %d, want 422", got.status)
	}
	if got := s.ask(t, "PUT", "/v1/applied/prod/exports/a", `[]`); got.status != http.StatusUnprocessableEntity {
		t.Errorf("no object: %d, want 422", got.status)
	}
}

// An operator who forges what was applied of peers would have an admin's next apply
// remove one.
func TestWhatWasAppliedOfPeersIsAnAdminsWord(t *testing.T) {
	s := newStand(t, withRoles(&issuer{}))
	peer := `{"name":"north","id":"spiffe://north.test/isthmus/cluster/north"}`
	for _, c := range []struct {
		token, kind  string
		put, deleted int
	}{
		{"bob:ops", "peers", 403, 403},
		{"bob:ops", "exports", 204, 204},
		{"root:x", "peers", 204, 204},
		{"vera:everybody", "exports", 403, 403},
	} {
		put := s.ask(t, "PUT", "/v1/applied/prod/"+c.kind+"/north", peer, "Authorization: Bearer "+c.token)
		deleted := s.ask(t, "DELETE", "/v1/applied/prod/"+c.kind+"/north", "", "Authorization: Bearer "+c.token)
		if put.status != c.put || deleted.status != c.deleted {
			t.Errorf("%s, %s: %d and %d, want %d and %d", c.token, c.kind, put.status, deleted.status, c.put, c.deleted)
		}
	}
}
