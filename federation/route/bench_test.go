package route_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// thousand has 1,000 candidates: clusters of one tier, or own endpoints.
func thousand(what string, alg policy.Algorithm) *world {
	w := newWorld().policy(policy.Traffic{Algorithm: alg})
	if alg.Hashes() {
		w.policy(sticky(alg))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	now := epoch.UnixNano()
	if what == "endpoints" {
		w.local("az1", 1000)
		for i := range w.service().Endpoints {
			ep := &w.service().Endpoints[i]
			ep.Weight = uint32(1 + rnd.IntN(10))
			c := w.live.Endpoint(endpointKey(ep.ID))
			c.Begin(now)
			c.End(now, time.Duration(rnd.IntN(50_000_000)), true)
		}
		return w
	}
	for i := range 1000 {
		n := uint32(1 + rnd.IntN(10))
		name := fmt.Sprintf("p%d", i)
		w.peer(name, "gcp", time.Duration(1+rnd.IntN(9))*time.Millisecond, n, n)
		c := w.live.Target(target(catalog.ClusterName(name)))
		c.Begin(now)
		c.End(now, time.Duration(rnd.IntN(50_000_000)), true)
	}
	return w
}

func BenchmarkPick(b *testing.B) {
	for _, what := range []string{"clusters", "endpoints"} {
		for _, alg := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.LeastRequest, policy.RingHash, policy.Maglev} {
			b.Run(fmt.Sprintf("%s/%s", what, alg), func(b *testing.B) {
				p := thousand(what, alg).compile()
				r := request(0)
				r.NowNanos += int64(time.Second) // estimates decay
				b.ReportAllocs()
				for b.Loop() {
					r.Random++
					if alg.Hashes() {
						r.Hash = r.Random << 2 >> 2
					}
					if c, _ := p.Pick(r); c.Status != route.OK {
						b.Fatal(c.Status)
					}
				}
			})
		}
	}
	b.Run("peer: gRPC least request", func(b *testing.B) { benchGRPC(b, grpcPicker(b, 1000)) })
	b.Run("three clusters/p2c", func(b *testing.B) {
		p := newWorld().local("az1", 3).peer("b", "gcp", time.Millisecond, 3, 3).peer("c", "gcp", time.Millisecond, 3, 3).compile()
		r := request(0)
		b.ReportAllocs()
		for b.Loop() {
			r.Random++
			p.Pick(r)
		}
	})
	b.Run("retry/p2c", func(b *testing.B) {
		p := thousand("clusters", policy.P2C).compile()
		r := request(0)
		r.Tried.Add("p1", "")
		r.Tried.Add("p2", "")
		b.ReportAllocs()
		for b.Loop() {
			r.Random++
			p.Pick(r)
		}
	})
}

func BenchmarkPickParallel(b *testing.B) {
	p := thousand("clusters", policy.P2C).compile()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := request(0)
		for pb.Next() {
			r.Random++
			c, _ := p.Pick(r)
			c.Counters.Begin(r.NowNanos)
			c.Counters.End(r.NowNanos, time.Millisecond, true)
		}
	})
}

// BenchmarkCompile: 1,000 services with three own endpoints and three offers.
func BenchmarkCompile(b *testing.B) {
	w := newWorld().local("az1", 3).peer("b", "gcp", 10*time.Millisecond, 3, 3).
		peer("c", "gcp", 50*time.Millisecond, 3, 3).peer("d", "azure", 90*time.Millisecond, 3, 3)
	proto := *w.service()
	w.table.Services = nil
	for i := range 1000 {
		s := proto
		s.Name = catalog.MustServiceName(fmt.Sprintf("s%04d", i))
		w.table.Services = append(w.table.Services, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.compile()
	}
}

func BenchmarkCounters(b *testing.B) {
	var c route.Counters
	now := epoch.UnixNano()
	b.ReportAllocs()
	for b.Loop() {
		now += 1e6
		c.Begin(now)
		c.End(now, time.Millisecond, true)
	}
}

func BenchmarkExplain(b *testing.B) {
	p := everywhere().compile()
	for b.Loop() {
		p.Explain(*request(0))
	}
}
