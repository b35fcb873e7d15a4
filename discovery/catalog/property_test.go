package catalog_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// drawService draws a small service: few names, so that snapshots overlap.
func drawService(t *rapid.T) *catalog.Service {
	s := service(rapid.SampledFrom([]string{"a", "b", "c", "a.shop", "d.shop"}).Draw(t, "name"))
	for i := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := endpoint(fmt.Sprint("id", i), "10.0.0.1:80")
		e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 3).Draw(t, "host"))}), 80)
		e.Weight = rapid.Uint32Range(1, 3).Draw(t, "weight")
		e.Health = rapid.SampledFrom(catalog.Healths()).Draw(t, "health")
		if rapid.Bool().Draw(t, "labelled") {
			e.Labels = map[string]string{"version": rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "version")}
		}
		if rapid.Bool().Draw(t, "mtls") {
			e.Transport, e.ServerID = catalog.MTLS, "spiffe://td.consul/svc/"+rapid.SampledFrom([]string{"a", "b"}).Draw(t, "server")
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func drawSnapshot(t *rapid.T, label string) *catalog.Snapshot {
	services := rapid.SliceOfNDistinct(rapid.Custom(drawService), 0, 5,
		func(s *catalog.Service) catalog.ServiceName { return s.Name }).Draw(t, label)
	s, err := catalog.NewSnapshot("test", services)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Diff and With are each other's inverse, and leave their inputs alone.
func TestDiffAndWithAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSnapshot(t, "a"), drawSnapshot(t, "b")
		beforeA, beforeB := mustJSON(t, a), mustJSON(t, b)
		d := catalog.Diff(a, b)
		got, err := a.With(d.Upserts, d.Removes)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(b) || mustJSON(t, got) != mustJSON(t, b) {
			t.Fatalf("a + diff(a, b) is not b:\n%s\n%s", mustJSON(t, got), mustJSON(t, b))
		}
		if got.EndpointCount() != b.EndpointCount() {
			t.Fatalf("counted %d endpoints, want %d", got.EndpointCount(), b.EndpointCount())
		}
		if d.IsEmpty() != a.Equal(b) {
			t.Fatal("an empty diff between snapshots that differ, or the reverse")
		}
		if mustJSON(t, a) != beforeA || mustJSON(t, b) != beforeB {
			t.Fatal("an input changed")
		}
	})
}

// Any order of services, ports and endpoints leads to the same bytes, and the
// bytes back to an equal snapshot.
func TestJSONIsOneFormPerMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, "s")
		var services []*catalog.Service
		for svc := range s.All() {
			c := svc.Clone()
			c.Endpoints = rapid.Permutation(c.Endpoints).Draw(t, "endpoints")
			services = append(services, c)
		}
		shuffled, err := catalog.NewSnapshot("test", rapid.Permutation(services).Draw(t, "services"))
		if err != nil {
			t.Fatal(err)
		}
		text := mustJSON(t, s)
		if mustJSON(t, shuffled) != text {
			t.Fatalf("the order of the input shows:\n%s\n%s", mustJSON(t, shuffled), text)
		}
		var back catalog.Snapshot
		if err := json.Unmarshal([]byte(text), &back); err != nil {
			t.Fatal(err)
		}
		if !back.Equal(s) {
			t.Fatal("the round trip is not equal")
		}
	})
}

func mustJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func FuzzSnapshotJSON(f *testing.F) {
	f.Add([]byte(`{"source":"a","services":[]}`))
	f.Add([]byte(`{"source":"a","services":[{"name":"web.shop","ports":[{"name":"http","protocol":"http"}],"endpoints":[{"id":"1","port":"http","address":"10.0.0.1:80","locality":{"cloud":"aws","region":"us-east-1","zone":"use1-az1"},"weight":1,"health":"passing","labels":{"version":"v2"}}],"meta":{"owner":"shop"}}]}`))
	f.Add([]byte(`{"source":"a","services":[null,{"name":"federation.x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s catalog.Snapshot
		if json.Unmarshal(data, &s) != nil {
			return
		}
		text := marshal(t, &s)
		var again catalog.Snapshot
		if err := json.Unmarshal([]byte(text), &again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, text)
		}
		if !again.Equal(&s) || marshal(t, &again) != text {
			t.Fatalf("not canonical:\n%s\n%s", text, marshal(t, &again))
		}
		for svc := range s.All() {
			if err := svc.Validate(); err != nil || svc.Name.IsFederation() {
				t.Fatalf("an invalid service is in a snapshot: %v", err)
			}
		}
	})
}

func FuzzParseSubset(f *testing.F) {
	f.Add("version=v2,zone=a")
	f.Add("=,=")
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := catalog.ParseSubset(s)
		if err != nil {
			return
		}
		keys := make([]string, 0, len(labels))
		for k := range labels {
			keys = append(keys, k)
		}
		if got := catalog.SubsetOf(labels, keys); got != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
