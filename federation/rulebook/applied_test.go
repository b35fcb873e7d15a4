package rulebook_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

func TestWhatASetAppliedOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := bolt(t, path)
	applied := book(t, s, policy.Set{}, func() { t.Error("what a set applied is no change of policy") }).Applied()
	rule := resource.AppliedRule{Kind: rulebook.Intentions, Name: "a", Rule: json.RawMessage(`{"name":"a"}`)}
	if err := applied.Remember(t.Context(), "prod", rule); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()

	applied = book(t, bolt(t, path), policy.Set{}, nil).Applied()
	rules, err := applied.List(t.Context(), "prod")
	if err != nil || len(rules) != 1 || rules[0].Name != "a" || string(rules[0].Rule) != `{"name":"a"}` {
		t.Fatalf("after a restart the set applied %+v, %v", rules, err)
	}
	if rules, err := applied.List(t.Context(), "pro"); err != nil || len(rules) != 0 {
		t.Fatalf("a set whose name begins the same applied %+v, %v", rules, err)
	}
	for range 2 { // forgetting what is forgotten is no error
		if err := applied.Forget(t.Context(), "prod", rulebook.Intentions, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if rules, err := applied.List(t.Context(), "prod"); err != nil || len(rules) != 0 {
		t.Fatalf("after forgetting it applied %+v, %v", rules, err)
	}
}
