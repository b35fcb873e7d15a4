package policy_test

import (
	"errors"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"pgregory.net/rapid"
)

type asserts = map[catalog.ClusterName][]policy.IDPattern

func TestAssertsOfTwoClustersMustBeDisjoint(t *testing.T) {
	for name, tc := range map[string]struct {
		in       asserts
		overlaps int
	}{
		"none":                       {nil, 0},
		"two domains":                {asserts{"a": {"spiffe://a/*"}, "b": {"spiffe://b/*"}}, 0},
		"two paths of one domain":    {asserts{"a": {"spiffe://td/a/*"}, "b": {"spiffe://td/b/*"}}, 0},
		"a path and its own parent":  {asserts{"a": {"spiffe://td/x"}, "b": {"spiffe://td/x/*"}}, 0},
		"names that share a prefix":  {asserts{"a": {"spiffe://td/ab"}, "b": {"spiffe://td/a/*"}}, 0},
		"within one cluster":         {asserts{"a": {"spiffe://td/*", "spiffe://td/x"}}, 0},
		"same ID":                    {asserts{"a": {"spiffe://td/x"}, "b": {"spiffe://td/x"}}, 1},
		"same wildcard":              {asserts{"a": {"spiffe://td/*"}, "b": {"spiffe://td/*"}}, 1},
		"ID below a wildcard":        {asserts{"a": {"spiffe://td/x/y/z"}, "b": {"spiffe://td/*"}}, 1},
		"wildcard below a wildcard":  {asserts{"a": {"spiffe://td/*"}, "b": {"spiffe://td/x/*"}}, 1},
		"three clusters, two pairs":  {asserts{"a": {"spiffe://td/*"}, "b": {"spiffe://td/x"}, "c": {"spiffe://td/y"}}, 2},
		"three clusters, each pair":  {asserts{"a": {"spiffe://td/*"}, "b": {"spiffe://td/x/*"}, "c": {"spiffe://td/x/y"}}, 3},
		"each pair is reported once": {asserts{"a": {"spiffe://td/x"}, "b": {"spiffe://td/x"}, "c": {"spiffe://other/x"}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			err := policy.CheckAsserts(tc.in)
			n := 0
			if err != nil {
				for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
					if _, ok := errors.AsType[*policy.OverlapError](e); !ok {
						t.Errorf("unexpected %v", e)
					}
					n++
				}
			}
			if n != tc.overlaps {
				t.Errorf("%d overlaps, want %d: %v", n, tc.overlaps, err)
			}
		})
	}
	if err := policy.CheckAsserts(asserts{"a": {"spiffe://TD/*"}}); err == nil {
		t.Error("a malformed pattern passes")
	}
	if err := policy.CheckAsserts(asserts{"a": make([]policy.IDPattern, policy.MaxAsserts+1)}); err == nil {
		t.Error("a list above its bound passes")
	}
}

func TestCheckAssertsFindsWhatOverlapFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := asserts{}
		for _, c := range []catalog.ClusterName{"a", "b", "c"} {
			in[c] = rapid.SliceOfNDistinct(rapid.SampledFrom(someIDs), 0, 3, rapid.ID).Draw(t, string(c))
		}
		want := false
		for a, pa := range in {
			for b, pb := range in {
				for _, x := range pa {
					for _, y := range pb {
						want = want || a != b && x.Overlap(y)
					}
				}
			}
		}
		if err := policy.CheckAsserts(in); (err != nil) != want {
			t.Fatalf("%v: %v, want overlap %v", in, err, want)
		}
	})
}
