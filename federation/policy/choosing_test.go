package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func TestValidateChoosing(t *testing.T) {
	labels := map[string]string{"version": "v1"}
	for name, tc := range map[string]struct {
		traffic policy.Traffic
		want    []string
	}{
		"everything that goes together": {policy.Traffic{
			Algorithm: policy.RingHash, LabelPriorities: []policy.LabelPriority{"cloud", "region", "tier=gold"},
			Distribute: []policy.Distribution{
				{From: "*", To: []policy.Share{{Cluster: "b", Weight: 1}}},
				{From: "aws/us-east-1", To: []policy.Share{{Locality: "aws/us-east-1", Weight: 80}, {Locality: "*", Weight: 20}}},
			},
			Residency: &policy.Residency{Clouds: []string{"aws"}, Regions: []string{"gcp/eu"}, Clusters: []catalog.ClusterName{"b"}},
			Subsets:   &policy.Subsets{Header: "X-Version", List: []policy.Subset{{Name: "v1", Labels: labels, Weight: 9}, {Name: "v2", Labels: map[string]string{"version": "v2"}}}},
			Sticky:    []policy.StickyKey{{Cookie: &policy.StickyCookie{Name: "sid", TTLSeconds: 60, Path: "/app"}}, {Header: "X-User"}, {Source: policy.SourceCaller}},
			Hashing:   &policy.Hashing{MinRingSize: 100, MaxRingSize: 1000, TableSize: 1009, BoundPercent: new(uint32(0))},
			SlowStart: &policy.SlowStart{WindowSeconds: 30, Aggression: 2, MinPercent: 5},
		}, nil},
		"sticky alone means maglev": {policy.Traffic{Sticky: []policy.StickyKey{{Source: policy.SourceAddress}}, Hashing: &policy.Hashing{TableSize: 251}}, nil},
		"label priorities": {policy.Traffic{
			Clusters: []catalog.ClusterName{"b"}, LabelPriorities: []policy.LabelPriority{"", "region=", "zone", "zone"},
		}, []string{"label_priorities", "label_priorities[0]", "label_priorities[1]", "label_priorities[3]"}},
		"distribute": {policy.Traffic{
			Weights: map[catalog.ClusterName]uint32{"b": 1},
			Distribute: []policy.Distribution{
				{From: "aws", To: []policy.Share{{Weight: 1}, {Cluster: "b", Locality: "aws", Weight: 1}, {Cluster: "B", Weight: policy.MaxWeight + 1}}},
				{From: "aws", To: []policy.Share{{Locality: "/x"}, {Locality: "aws"}, {Locality: "aws"}}},
				{From: "", To: nil},
			},
		}, []string{
			"distribute", "distribute[0].to[0].cluster", "distribute[0].to[1].cluster", "distribute[0].to[2].cluster", "distribute[0].to[2].weight",
			"distribute[1].from", "distribute[1].to[0].locality", "distribute[1].to[2].cluster", "distribute[1].to",
			"distribute[2].from", "distribute[2].to",
		}},
		"distribute and a pin": {policy.Traffic{Pin: "b", Distribute: []policy.Distribution{{From: "*", To: []policy.Share{{Cluster: "b", Weight: 1}}}}}, []string{"distribute"}},
		"nowhere to reside":    {policy.Traffic{Residency: &policy.Residency{}}, []string{"residency.clouds"}},
		"residency": {policy.Traffic{Residency: &policy.Residency{
			Clouds: []string{"AWS"}, Regions: []string{"aws", "aws/eu/z"}, Clusters: []catalog.ClusterName{"b.c"},
		}}, []string{"residency.clouds[0]", "residency.regions[0]", "residency.regions[1]", "residency.clusters[0]"}},
		"subsets": {policy.Traffic{Subsets: &policy.Subsets{Header: "a b", List: []policy.Subset{
			{Name: "V1"},
			{Name: "v1", Labels: map[string]string{"version": "v 1"}, Weight: policy.MaxWeight + 1},
			{Name: "v1", Labels: labels},
			{Name: "v2", Labels: map[string]string{"a": strings.Repeat("x", 512), "b": strings.Repeat("x", 512)}},
		}}}, []string{
			"subsets.header", "subsets.list[0].name", "subsets.list[0].labels", "subsets.list[1].weight", "subsets.list[1].labels.version",
			"subsets.list[2].name", "subsets.list[3].labels",
		}},
		"subsets that nothing goes to": {policy.Traffic{Subsets: &policy.Subsets{List: []policy.Subset{{Name: "v1", Labels: labels}}}}, []string{"subsets.header"}},
		"subsets without any":          {policy.Traffic{Subsets: &policy.Subsets{Header: "X-Version"}}, []string{"subsets.list"}},
		"hash of nothing":              {policy.Traffic{Algorithm: policy.Maglev}, []string{"sticky"}},
		"sticky p2c":                   {policy.Traffic{Algorithm: policy.P2C, Sticky: []policy.StickyKey{{Header: "X-User"}}}, []string{"sticky"}},
		"sticky": {policy.Traffic{Sticky: []policy.StickyKey{
			{}, {Header: "a b"}, {Source: "ip"}, {Cookie: &policy.StickyCookie{Name: "a;b", TTLSeconds: policy.MaxCookieTTL + 1, Path: "x"}},
		}}, []string{"sticky[0].header", "sticky[1].header", "sticky[2].source", "sticky[3].cookie.name", "sticky[3].cookie.ttl_s", "sticky[3].cookie.path"}},
		"path of a cookie that is only read": {policy.Traffic{Sticky: []policy.StickyKey{{Cookie: &policy.StickyCookie{Name: "a", Path: "/"}}}}, []string{"sticky[0].cookie.path"}},
		"hashing": {policy.Traffic{Algorithm: policy.RingHash, Sticky: []policy.StickyKey{{Header: "a"}}, Hashing: &policy.Hashing{
			MinRingSize: 2000, MaxRingSize: 1000, TableSize: 1000, BoundPercent: new(uint32(100)),
		}}, []string{"hashing.min_ring_size", "hashing.table_size", "hashing.bound_percent"}},
		"hashing by p2c": {policy.Traffic{Hashing: &policy.Hashing{TableSize: 65537}}, []string{"hashing.min_ring_size"}},
		"slow start":     {policy.Traffic{SlowStart: &policy.SlowStart{Aggression: -1, MinPercent: 101}}, []string{"slow_start.window_s", "slow_start.aggression", "slow_start.min_percent"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.traffic.Name, tc.traffic.Services = "a", []policy.ServicePattern{"web.shop"}
			if got := fields(t, tc.traffic.Validate()); !slices.Equal(got, tc.want) {
				t.Errorf("problems with\n%q\nwant\n%q\n%v", got, tc.want, tc.traffic.Validate())
			}
			if tc.want == nil {
				if err := tc.traffic.Filled().Validate(); err != nil {
					t.Errorf("filled: %v", err)
				}
			}
		})
	}
}

func TestFilledHashing(t *testing.T) {
	small := policy.Traffic{Sticky: []policy.StickyKey{{Header: "a"}}, Hashing: &policy.Hashing{MaxRingSize: 100}}
	f := small.Filled()
	if f.Algorithm != policy.Maglev || f.Hashing.MinRingSize != 100 || f.Hashing.MaxRingSize != 100 || *f.Hashing.BoundPercent != 125 || f.Hashing.TableSize != 0 {
		t.Errorf("%s, %+v", f.Algorithm, f.Hashing)
	}
	if small.Hashing.MinRingSize != 0 || small.Algorithm != "" {
		t.Errorf("filling changed the policy: %+v", small)
	}
	if plain := (policy.Traffic{}).Filled(); plain.Hashing != nil || plain.Algorithm != policy.P2C {
		t.Errorf("without a key: %+v", plain)
	}
	slow := policy.Traffic{SlowStart: &policy.SlowStart{WindowSeconds: 30}}
	if s := slow.Filled().SlowStart; s.Aggression != 1 || s.MinPercent != 10 || slow.SlowStart.MinPercent != 0 {
		t.Errorf("slow start %+v", s)
	}
}
