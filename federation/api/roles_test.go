package api_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
)

// notByMethod lists the operations whose role is not that of their method
// (viewers read, operators write). An operation that is added needs a line here
// exactly when it is registered with a role of its own: whoever adds one decides.
func notByMethod() map[string]api.Role {
	return map[string]api.Role{
		"create-peer":  api.Admin,
		"replace-peer": api.Admin,
		"delete-peer":  api.Admin,
		"list-audit":   api.Admin,
		"verify-audit": api.Admin,

		"simulate":      api.Viewer,
		"get-recording": api.Operator,

		"create-invitation": api.Admin,
		"list-invitations":  api.Admin,
		"revoke-invitation": api.Admin,
		"accept-invitation": api.Admin,
		"get-card":          api.Viewer,
	}
}

// Every operation has a role, and all but those above that of its method.
func TestRoleOfEveryOperation(t *testing.T) {
	s := newStand(t, func(o *api.Options) { o.Peering = noPeering{} })
	special := notByMethod()
	seen := map[string]bool{}
	for _, op := range s.server.Operations() {
		want := api.Operator
		if op.Method == "GET" {
			want = api.Viewer
		}
		if r, ok := special[op.ID]; ok {
			want = r
			seen[op.ID] = true
		}
		if op.Role != want {
			t.Errorf("%s (%s %s) needs %s, want %s", op.ID, op.Method, op.Path, op.Role, want)
		}
		if op.Role == api.NoRole {
			t.Errorf("%s needs no role", op.ID)
		}
		if strings.HasPrefix(op.Path, "/v1/peering") && op.Role != api.Admin && op.ID != "get-card" || strings.HasPrefix(op.Path, "/v1/audit") && op.Role != api.Admin {
			t.Errorf("%s is open to %s", op.Path, op.Role)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(special)) {
		if !seen[id] {
			t.Errorf("there is no operation %s", id)
		}
	}
}

// noPeering is there to be described; it is asked nothing.
type noPeering struct{ api.Peering }
