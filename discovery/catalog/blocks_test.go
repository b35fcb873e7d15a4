package catalog_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// A large snapshot that is edited many times is the one that is made at once of
// the same services, whatever lists it is cut into on the way.
func TestEditedLargeSnapshotIsTheOneMadeAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const names = 600
		name := func(i int) string { return fmt.Sprintf("s%04d.shop", i) }
		content := map[int]*catalog.Service{}
		draw := func(i, endpoints int) *catalog.Service {
			s := service(name(i))
			for e := range endpoints {
				s.Endpoints = append(s.Endpoints, endpoint(fmt.Sprint("id", e), "10.0.0.1:80"))
			}
			return s
		}
		step := rapid.IntRange(1, 50).Draw(t, "step")
		for i := 0; i < names; i += step {
			content[i] = draw(i, i%3)
		}
		s := made(t, content)
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			puts, removes := map[int]*catalog.Service{}, map[int]bool{}
			first := rapid.IntRange(0, names-1).Draw(t, "first")
			long := rapid.SampledFrom([]int{1, 3, 200, names}).Draw(t, "long")
			every := rapid.IntRange(1, 200).Draw(t, "every")
			remove := rapid.Bool().Draw(t, "remove")
			for i := first; i < min(names, first+long); i += every {
				if remove {
					removes[i] = true
					delete(content, i)
				} else {
					puts[i] = draw(i, rapid.IntRange(0, 2).Draw(t, "endpoints"))
					content[i] = puts[i]
				}
			}
			before := s
			var gone []catalog.ServiceName
			for i := range removes {
				gone = append(gone, catalog.MustServiceName(name(i)))
			}
			var err error
			if s, err = s.With(slices.Collect(maps.Values(puts)), gone); err != nil {
				t.Fatal(err)
			}
			want := made(t, content)
			if !s.Equal(want) || !want.Equal(s) || s.Len() != len(content) || s.EndpointCount() != want.EndpointCount() {
				t.Fatalf("%d services with %d endpoints, want %d with %d", s.Len(), s.EndpointCount(), want.Len(), want.EndpointCount())
			}
			if !slices.Equal(slices.Collect(s.All()), slices.Collect(want.All())) {
				t.Fatal("other services, or in another order")
			}
			for i := 0; i < names; i += 7 {
				if got := s.Get(catalog.MustServiceName(name(i))); got != content[i] {
					t.Fatalf("%s is %v, want %v", name(i), got, content[i])
				}
			}
			d, scratch := catalog.Diff(before, s), catalog.Diff(made(t, of(before)), want)
			if !slices.Equal(d.Removes, scratch.Removes) || !slices.Equal(d.Upserts, scratch.Upserts) {
				t.Fatalf("differs by %v, from scratch by %v", d, scratch)
			}
			if before.Equal(s) != d.IsEmpty() {
				t.Fatal("equal, and yet it differs, or the reverse")
			}
		}
	})
}

func of(s *catalog.Snapshot) map[int]*catalog.Service {
	out := map[int]*catalog.Service{}
	for svc := range s.All() {
		out[len(out)] = svc
	}
	return out
}

func made(t *rapid.T, content map[int]*catalog.Service) *catalog.Snapshot {
	s, err := catalog.NewSnapshot("test", slices.Collect(maps.Values(content)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
