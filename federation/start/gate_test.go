package start_test

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/start"
)

var zero = time.Unix(1e9, 0)

func TestSourcesAreWaitedFor(t *testing.T) {
	g := start.Open(zero, nil, nil)
	if ready, _ := g.Sources(zero.Add(start.SourceGrace-1), []string{"consul"}); ready {
		t.Error("ready with a source that has said nothing")
	}
	ready, late := g.Sources(zero.Add(start.SourceGrace), []string{"consul"})
	if !ready || !slices.Equal(late, []string{"consul"}) {
		t.Errorf("after the grace: %v, late %v", ready, late)
	}
	if ready, late := g.Sources(zero, []string{"consul"}); !ready || late != nil {
		t.Errorf("asked again: %v, late %v", ready, late)
	}
	if ready, _ := start.Open(zero, nil, nil).Sources(zero, nil); !ready {
		t.Error("waits for nobody")
	}
}

func TestPeersOfBeforeAreWaitedFor(t *testing.T) {
	g := start.Open(zero, nil, []string{"beta", "gone"})
	if ready, _ := g.Peers(zero.Add(start.PeerGrace-1), []string{"beta", "new"}); ready {
		t.Error("ready without the catalog of a peer that was known")
	}
	if ready, late := g.Peers(zero.Add(1), []string{"new"}); !ready || late != nil {
		t.Errorf("the peer has spoken, another one was never known: %v, late %v", ready, late)
	}
	g = start.Open(zero, nil, []string{"beta"})
	if ready, late := g.Peers(zero.Add(start.PeerGrace), []string{"beta", "new"}); !ready || !slices.Equal(late, []string{"beta"}) {
		t.Errorf("after the grace: %v, late %v", ready, late)
	}
	if ready, _ := start.Open(zero, nil, nil).Peers(zero, []string{"beta"}); !ready {
		t.Error("the first start waits for a peer that was never known")
	}
}

func TestAfterALossAllPeersAreWaitedFor(t *testing.T) {
	g := start.Open(zero, nil, nil)
	if ready, _ := g.Peers(zero, []string{"beta"}); !ready {
		t.Fatal("not ready")
	}
	later := zero.Add(time.Minute)
	g.Lost(later)
	if !g.Waits() {
		t.Error("waits for nothing")
	}
	if ready, _ := g.Peers(later.Add(start.PeerGrace-1), []string{"beta"}); ready {
		t.Error("ready without a peer whose offers the gateways have")
	}
	if ready, late := g.Peers(later.Add(1), nil); !ready || late != nil {
		t.Errorf("the peer has spoken: %v, late %v", ready, late)
	}
	g.Lost(later)
	if ready, late := g.Peers(later.Add(start.PeerGrace), []string{"beta"}); !ready || !slices.Equal(late, []string{"beta"}) {
		t.Errorf("after the grace: %v, late %v", ready, late)
	}
}

func TestGatewaysOfBeforeAreWaitedFor(t *testing.T) {
	g := start.Open(zero, []string{"a", "b"}, nil)
	if g.Roster(zero.Add(1), []string{"a"}) {
		t.Error("known without a gateway of before")
	}
	if !g.Roster(zero.Add(1), []string{"a", "b", "c"}) || !g.Roster(zero.Add(2), nil) {
		t.Error("not known with all")
	}
	g = start.Open(zero, []string{"a"}, nil)
	if g.Roster(zero.Add(start.RosterGrace-1), nil) || !g.Roster(zero.Add(start.RosterGrace), nil) {
		t.Error("the grace is not kept")
	}
	if g = start.Open(zero, nil, nil); g.Roster(zero, nil) || !g.Roster(zero, []string{"a"}) {
		t.Error("the first start: a roster of nobody, or none of one")
	}
}
