package merge_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"pgregory.net/rapid"
)

// However snapshots, summaries and leases change one after the other, the view
// that follows each change is the one that Merge makes of everything, and
// Changes names exactly what differs.
func TestUpdateByRulesIsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		in.Rules = new(int)
		mapped := merge.Mapping{
			Namespaces: map[string]string{"b": "a"},
			Rename:     map[catalog.ServiceName]catalog.ServiceName{name("db.a"): name("web.a")},
		}
		if rapid.Bool().Draw(t, "mapped") {
			in.Sources[0].Mapping = mapped
		}
		for i := range in.Peers {
			inOrder(&in.Peers[i])
		}
		v := merge.Merge(in)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			in.Sources, in.Peers = slices.Clone(in.Sources), slices.Clone(in.Peers)
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				i := rapid.IntRange(0, 1).Draw(t, "source")
				in.Sources[i].Snapshot = changedSnapshot(t, in.Sources[i].Snapshot)
			case 2, 3:
				if len(in.Peers) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(in.Peers)-1).Draw(t, "peer")
				in.Peers[i] = changedPeer(t, in.Peers[i])
			default:
				in.Rules, in.Import = new(int), drawImport(t)
			}
			next := merge.Update(v, in)
			want := merge.Merge(in)
			if a, b := text(t, want), text(t, next); a != b || !want.Equal(next) {
				t.Fatalf("step by step differs:\n%s\n%s", a, b)
			}
			if len(want.Conflicts()) != len(next.Conflicts()) {
				t.Fatalf("%d conflicts, want %d", len(next.Conflicts()), len(want.Conflicts()))
			}
			checkChanges(t, v, next)
			v = next
		}
	})
}

func inOrder(p *merge.Peer) {
	slices.SortFunc(p.Summaries, func(a, b *catalog.Summary) int { return a.Service.Compare(b.Service) })
}

// changedSnapshot takes over some services of s as they are.
func changedSnapshot(t *rapid.T, s *catalog.Snapshot) *catalog.Snapshot {
	fresh := drawSnapshot(t, s.Source())
	if rapid.Bool().Draw(t, "whole") {
		return fresh
	}
	next, err := s.With(slices.Collect(fresh.All()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func changedPeer(t *rapid.T, p merge.Peer) merge.Peer {
	fresh := drawPeer(t, p.Cluster)
	for _, s := range p.Summaries {
		known := slices.ContainsFunc(fresh.Summaries, func(o *catalog.Summary) bool { return o.Service == s.Service })
		if !known && rapid.Bool().Draw(t, "stays") {
			fresh.Summaries = append(fresh.Summaries, s)
		}
	}
	inOrder(&fresh)
	return fresh
}

func checkChanges(t *rapid.T, before, after *merge.View) {
	seen := map[catalog.ServiceName]bool{}
	for was, is := range merge.Changes(before, after) {
		n := catalog.ServiceName{}
		if was != nil {
			n = was.Name
		}
		if is != nil {
			n = is.Name
		}
		if seen[n] || before.Get(n) != was || after.Get(n) != is || was == is {
			t.Fatalf("%s: is told as %p, %p; is %p, %p", n, was, is, before.Get(n), after.Get(n))
		}
		seen[n] = true
	}
	for s := range after.All() {
		if !seen[s.Name] && before.Get(s.Name) != s {
			t.Fatalf("%s: the change is not told", s.Name)
		}
	}
	for s := range before.All() {
		if !seen[s.Name] && after.Get(s.Name) != s {
			t.Fatalf("%s: the change is not told", s.Name)
		}
	}
}
