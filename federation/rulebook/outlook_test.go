package rulebook_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// An outlook is what a write makes, and makes nothing itself.
func TestOutlookIsWhatAWriteMakes(t *testing.T) {
	bolt, err := store.OpenBolt(store.BoltOptions{Path: t.TempDir() + "/store.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bolt.Close() })
	b, err := rulebook.New(t.Context(), rulebook.Options{Store: bolt, Config: policy.Set{
		Exports: []policy.Export{{Name: "m", Services: []policy.ServicePattern{"*"}, To: []string{"*"}}},
	}, ConfigPeers: []policy.Peer{{Name: "west", ID: "spiffe://west.test/c"}}})
	if err != nil {
		t.Fatal(err)
	}
	rule := func(name, to string) resource.Export {
		return resource.Export{Export: policy.Export{Name: name, Services: []policy.ServicePattern{"web.default"}, To: []string{to}}}
	}
	before := b.Set()
	check := func(what string, want rulebook.Outlook) {
		t.Helper()
		if !b.Set().Equal(want.Set) || !slices.EqualFunc(b.Peers(), want.Peers, policy.Peer.Equal) {
			t.Errorf("%s: foreseen %+v, made %+v %+v", what, want, b.Set(), b.Peers())
		}
	}
	for _, r := range []resource.Export{rule("z", "west"), rule("a", "west"), rule("z", "*")} {
		o := b.Exports().With(r)
		if r.To[0] == "west" {
			if _, err := b.Exports().Create(t.Context(), r, false); err != nil {
				t.Fatal(err)
			}
		} else if _, err := b.Exports().Replace(t.Context(), "z", r, mustMatch(t, "*"), false); err != nil {
			t.Fatal(err)
		}
		check(r.Name, o)
	}
	if len(before.Exports) != 1 {
		t.Errorf("the set of before was changed: %+v", before)
	}
	o := b.Exports().Without("z")
	if err := b.Exports().Delete(t.Context(), "z", rulebook.Precondition{}, false); err != nil {
		t.Fatal(err)
	}
	check("without z", o)
	north := resource.PeerRule{Peer: policy.Peer{Name: "north", ID: "spiffe://north.test/c"}}
	o = b.PeerRules().With(north)
	if _, err := b.PeerRules().Create(t.Context(), north, false); err != nil {
		t.Fatal(err)
	}
	check("north", o)
}

func mustMatch(t *testing.T, header string) rulebook.Precondition {
	t.Helper()
	p, err := rulebook.ParseIfMatch(header)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
