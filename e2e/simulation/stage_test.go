package simulation_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

var (
	stageService = catalog.MustServiceName("web.shop")
	stagePorts   = []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	stageHere    = catalog.Locality{Cloud: "aws", Region: "us-east-1"}
)

// stage is the product's board of one gateway with a steady load on modelled time: the
// own cluster has instances, the peers "near" (in the same region) and "far" may too.
type stage struct {
	t       *testing.T
	now     time.Time
	rng     *rand.Rand
	board   *board.Board
	traffic *policy.Traffic
	own     int            // instances of the own cluster, all ready
	zones   int            // that they are spread over, one by default
	ready   map[string]int // of the peers; one that is missing offers nothing
	version uint64
	next    time.Time // Refresh
	told    time.Time
	ends    endings

	// fails says whether an attempt fails, and how long it takes.
	serve func(s *stage, c *route.Choice) (took time.Duration, ok bool)
}

func newStage(t *testing.T, seed uint64, traffic *policy.Traffic) *stage {
	s := &stage{t: t, now: time.Unix(1e9, 0), rng: rand.New(rand.NewPCG(seed, 2)), traffic: traffic, ready: make(map[string]int)}
	var err error
	s.board, err = board.New(board.Options{
		Cluster: "own", Self: stageHere, Random: s.rng.Uint64, Now: func() time.Time { return s.now },
		Links: func() []board.Link {
			return []board.Link{{Cluster: "near", Up: true, RTT: 5 * time.Millisecond}, {Cluster: "far", Up: true, RTT: 80 * time.Millisecond}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// table gives the board the clusters as they are.
func (s *stage) table() {
	s.version++
	peer := func(c string, where catalog.Locality) route.Peer {
		id := "spiffe://" + c + ".test/isthmus/cluster/" + c
		return route.Peer{
			Name: catalog.ClusterName(c), ID: id, Locality: where, HeardAt: s.now,
			Gateways: []catalog.Gateway{{Name: "g", ID: id + "/gateway/g", Addresses: []string{"10.0.0.1:7443"}}},
		}
	}
	web := route.Service{Name: stageService, Ports: stagePorts, Traffic: s.traffic, ExportedTo: []catalog.ClusterName{"far"}}
	for i := range s.own {
		web.Endpoints = append(web.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("web-%02d", i), Port: "http", Weight: 1, Health: catalog.Passing, Locality: stageHere.WithZone(string(rune('a' + i%max(1, s.zones)))),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80),
		})
	}
	for _, c := range []string{"far", "near"} {
		if n, has := s.ready[c]; has {
			web.Remote = append(web.Remote, route.Remote{
				Cluster: catalog.ClusterName(c), Name: stageService, Ports: stagePorts, Rows: []catalog.SummaryRow{{Port: "http", Ready: uint32(n), Total: uint32(n)}},
			})
		}
	}
	t := &route.Table{
		Format: route.MinTableFormat, Epoch: 1, Version: s.version, Federation: "127.0.0.1:7483",
		Cluster:  route.Cluster{Name: "own", Locality: stageHere, ID: "spiffe://own.test/isthmus/cluster/own"},
		Peers:    []route.Peer{peer("far", catalog.Locality{Cloud: "gcp", Region: "asia-east1"}), peer("near", stageHere)},
		Services: []route.Service{web},
	}
	s.board.SetTable(t)
}

// reports are those of the peers' gateways.
func (s *stage) reports() {
	for c, n := range s.ready {
		s.board.TakeReport(catalog.ClusterName(c), "g", wire.Report{Services: []wire.ServiceReport{
			{Service: stageService.String(), Port: "http", Ready: uint32(n), Total: uint32(n)},
		}})
	}
}

// call makes a call, with another attempt elsewhere if the first fails, and says where
// the first went; lost: both failed, or there was nowhere to go.
func (s *stage) call() (first route.Choice, lost bool) {
	s.settle()
	r := &route.Request{Service: stageService, NowNanos: s.now.UnixNano()}
	for attempt := range 2 {
		r.Random = s.rng.Uint64()
		c, _ := s.board.Plan().Pick(r)
		if attempt == 0 {
			first = c
		}
		if c.Status != route.OK {
			return first, true
		}
		id := ""
		if c.Endpoint != nil {
			id = c.Endpoint.ID
		}
		took, ok := s.serve(s, &c)
		c.Counters.Begin(r.NowNanos)
		if c.EndpointCounters != nil {
			c.EndpointCounters.Begin(r.NowNanos)
		}
		heap.Push(&s.ends, ending{at: s.now.Add(took), took: took, choice: c, id: id, ok: ok})
		if ok {
			return first, false
		}
		r.Tried.Add(c.Target.Cluster, id)
	}
	return first, true
}

// settle ends what has ended by now and keeps the plan fresh.
func (s *stage) settle() {
	for len(s.ends) > 0 && !s.ends[0].at.After(s.now) {
		e := heap.Pop(&s.ends).(ending)
		outcome := route.Success
		if !e.ok {
			outcome = route.ServiceFailure
		}
		e.choice.Counters.End(e.at.UnixNano(), e.took, e.ok)
		var key *route.EndpointKey
		if e.choice.EndpointCounters != nil {
			e.choice.EndpointCounters.End(e.at.UnixNano(), e.took, e.ok)
			key = &route.EndpointKey{Service: stageService, Port: "http", ID: e.id}
		}
		s.board.Observe(e.choice.Target, key, outcome, false)
	}
	if s.now.Sub(s.told) >= time.Second {
		s.told = s.now
		s.reports()
	}
	if marked := s.board.Marked(); !s.now.Before(s.next) || marked {
		s.next = s.board.Refresh()
	}
}

// ending is an attempt under way; endings are a heap by time.
type ending struct {
	at     time.Time
	took   time.Duration
	choice route.Choice
	id     string
	ok     bool
}

type endings []ending

func (h endings) Len() int           { return len(h) }
func (h endings) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h endings) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *endings) Push(x any)        { *h = append(*h, x.(ending)) }
func (h *endings) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
