package route_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// A gateway that cannot read conditions must not be given rules without them: their
// tables are of a format that it refuses.
func TestConditionsRaiseTheFormat(t *testing.T) {
	table := valid()
	table.Intentions = []policy.Intention{{
		Name: "a", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://b.test/*"}, Action: policy.Allow,
		HTTP: []policy.HTTPCondition{{Methods: []string{"GET"}}},
	}}
	if f := route.FormatOf(table.Intentions, nil); f != 2 {
		t.Errorf("format %d, want 2", f)
	}
	table.Format = 1
	if err := table.Validate(); err == nil {
		t.Error("a table of format 1 has conditions")
	}
	table.Format = 2
	if err := table.Validate(); err != nil {
		t.Error(err)
	}
	if f := route.FormatOf(nil, nil); f != route.MinTableFormat {
		t.Errorf("without conditions: format %d", f)
	}
}

// What a gateway does not know of an intention narrows it: it opens nothing.
func TestUnknownConditionsOfATableFailClosed(t *testing.T) {
	table := valid()
	for _, action := range []policy.Action{policy.Allow, policy.Deny} {
		table.Intentions = append(table.Intentions, policy.Intention{
			Name: "later-" + string(action), Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://b.test/*"}, Action: action,
		})
	}
	b, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	later := strings.ReplaceAll(string(b), `"name":"later-`, `"only_on":"monday","name":"later-`)
	got, err := route.DecodeTable([]byte(later))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range got.Intentions {
		if in.Name == "later-allow" {
			t.Error("an allow with a condition that is not known is applied")
		}
	}
	if n := len(got.Intentions); n != len(table.Intentions)-1 || got.Intentions[n-1].Name != "later-deny" {
		t.Errorf("a deny with a condition that is not known is not applied: %+v", got.Intentions)
	}
}
