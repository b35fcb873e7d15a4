package rulebook_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

// applied is what a set applied of the intention a, "" where it is none of its.
func applied(t *testing.T, b *rulebook.Book, set string) policy.Action {
	t.Helper()
	rules, err := b.Applied().List(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		var in policy.Intention
		if err := json.Unmarshal(r.Rule, &in); err != nil {
			t.Fatal(err)
		}
		if r.Kind == rulebook.Intentions && r.Name == "a" && in.Name == "a" {
			return in.Action
		}
	}
	return ""
}

func TestWhatASetAppliedIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := bolt(t, path)
	b := book(t, s, policy.Set{}, nil)
	ours := rulebook.WithAppliedSet(t.Context(), "prod")
	shelf := b.Intentions()
	pre := func(r resource.Intention) rulebook.Precondition {
		p, err := rulebook.ParseIfMatch(r.ETag)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	made, err := shelf.Create(ours, intention("a", policy.Allow), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := applied(t, b, "prod"); got != policy.Allow {
		t.Fatalf("after a create the set applied %q", got)
	}
	if got := applied(t, b, "pro"); got != "" {
		t.Fatalf("a set whose name begins the same applied %q", got)
	}

	// Somebody else's write is none of the set's.
	other, err := shelf.Replace(t.Context(), "a", intention("a", policy.Deny), pre(made), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := applied(t, b, "prod"); got != policy.Allow {
		t.Fatalf("after somebody else's write the set applied %q", got)
	}

	// The same rule again writes nothing, and is the set's from now on.
	again, err := shelf.Replace(ours, "a", intention("a", policy.Deny), pre(other), false)
	if err != nil || again.ETag != other.ETag {
		t.Fatalf("the same rule again: %+v, %v; want etag %s", again, err, other.ETag)
	}
	if got := applied(t, b, "prod"); got != policy.Deny {
		t.Fatalf("after the same rule again the set applied %q", got)
	}

	// It outlives the process, and a dry run changes nothing of it.
	_ = s.Close()
	b = book(t, bolt(t, path), policy.Set{}, nil)
	if err := b.Intentions().Delete(ours, "a", pre(again), true); err != nil {
		t.Fatal(err)
	}
	if got := applied(t, b, "prod"); got != policy.Deny {
		t.Fatalf("after a restart and a dry run the set applied %q", got)
	}
	if err := b.Intentions().Delete(ours, "a", pre(again), false); err != nil {
		t.Fatal(err)
	}
	if got := applied(t, b, "prod"); got != "" {
		t.Fatalf("after a deletion the set applied %q", got)
	}
	if err := b.Applied().Forget(t.Context(), "prod", rulebook.Intentions, "a"); err != nil {
		t.Errorf("forgetting what is forgotten: %v", err)
	}
}
