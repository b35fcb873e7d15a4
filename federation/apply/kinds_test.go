package apply_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/apply"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// held has two rules of each kind: "a" of the API, "b" of the configuration file.
func held() *apply.Held {
	made, fixed := resource.Stored{Origin: resource.FromAPI, ETag: "7"}, resource.Stored{Origin: resource.FromConfig}
	return &apply.Held{
		Peers:      []resource.Peer{{Name: "a", Spec: policy.Peer{Name: "a", Region: "r"}, Stored: made}, {Name: "b", Spec: policy.Peer{Name: "b"}, Stored: fixed}},
		Exports:    []resource.Export{{Export: policy.Export{Name: "a", To: []string{"*"}}, Stored: made}, {Export: policy.Export{Name: "b"}, Stored: fixed}},
		Imports:    []resource.Import{{Import: policy.Import{Name: "a", From: "east"}, Stored: made}, {Import: policy.Import{Name: "b"}, Stored: fixed}},
		Intentions: []resource.Intention{{Intention: policy.Intention{Name: "a", Action: policy.Allow}, Stored: made}, {Intention: policy.Intention{Name: "b"}, Stored: fixed}},
		Traffic:    []resource.TrafficPolicy{{Traffic: policy.Traffic{Name: "a"}, Stored: made}, {Traffic: policy.Traffic{Name: "b"}, Stored: fixed}},
	}
}

// Every kind of a file goes every way: what is held, what of it a file would say,
// and what was applied are taken apart alike.
func TestEveryKindGoesEveryWay(t *testing.T) {
	if kinds, fields := len(apply.Kinds()), reflect.TypeFor[apply.Document]().NumField(); kinds != fields {
		t.Fatalf("%d kinds, a file has %d", kinds, fields)
	}
	if kinds, fields := len(apply.Kinds()), reflect.TypeFor[apply.Held]().NumField(); kinds != fields {
		t.Fatalf("%d kinds, %d are held", kinds, fields)
	}
	h := held()
	live, err := h.Live()
	if err != nil {
		t.Fatal(err)
	}
	doc := h.Document()
	said, err := doc.Rules()
	if err != nil {
		t.Fatal(err)
	}
	if doc.Len() != len(apply.Kinds()) || len(said) != doc.Len() || len(live) != 2*len(said) {
		t.Fatalf("%d live, %d of a file of %d", len(live), len(said), doc.Len())
	}
	var set resource.AppliedSet
	for _, kind := range apply.Kinds() {
		a, b := apply.Key{Kind: kind, Name: "a"}, apply.Key{Kind: kind, Name: "b"}
		if live[a].Fixed || live[a].ETag != "7" || !live[b].Fixed {
			t.Errorf("%s: live %+v and %+v", kind, live[a], live[b])
		}
		if !equal(said[a], live[a].Fields) || string(said[a]["name"]) != `"a"` {
			t.Errorf("%s: a file says %s, held is %s", kind, said[a], live[a].Fields)
		}
		rule, err := json.Marshal(said[a])
		if err != nil {
			t.Fatal(err)
		}
		set.Rules = append(set.Rules, resource.AppliedRule{Kind: string(kind), Name: "a", Rule: rule})
	}
	set.Rules = append(set.Rules, resource.AppliedRule{Kind: "of-a-newer-version", Name: "a", Rule: json.RawMessage(`{}`)})
	base, err := apply.Base(set)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(base, said, equal) {
		t.Errorf("the base %s is not what was applied, %s", base, said)
	}
	if keys := slices.Collect(maps.Keys(base)); len(keys) != len(apply.Kinds()) {
		t.Errorf("base: %v", keys)
	}
}

func equal(a, b apply.Fields) bool {
	return maps.EqualFunc(a, b, func(x, y json.RawMessage) bool { return string(x) == string(y) })
}
