package board_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// TestWhatWasLearnedIsOffered: where nobody declares a capacity, peers are granted parts of
// what the service was found to take, as long as that is known.
func TestWhatWasLearnedIsOffered(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	calls, known := 40, false
	b, err := board.New(board.Options{
		Cluster: "alpha", Random: rand.Uint64, Now: func() time.Time { return now },
		Learned: func(s catalog.ServiceName) (int, bool) { return calls, known && s == web },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.SetTable(table())
	offer := func() (l wire.Load) {
		t.Helper()
		now = now.Add(2 * time.Second)
		b.TakeLoad("beta", "gw1", wire.Load{Seq: uint64(now.Unix()), Wants: []wire.ServiceLoad{{Service: web.String(), Port: "http", Want: 30}}})
		b.Refresh()
		l, _ = b.Loads()("beta", "gw1")
		return l
	}
	if l := offer(); len(l.Offers) != 0 {
		t.Errorf("nothing was learned: offers %+v", l.Offers)
	}
	known = true
	if l := offer(); len(l.Offers) != 1 || l.Offers[0].Capacity != 38 || l.Offers[0].Granted != 38 || l.Offers[0].Service != web.String() {
		t.Errorf("40 calls were learned: offers %+v", l.Offers)
	}
	calls = 1
	if l := offer(); len(l.Offers) != 1 || l.Offers[0].Capacity != 1 {
		t.Errorf("one call was learned: offers %+v", l.Offers)
	}
	calls = 40
	known = false
	if l := offer(); len(l.Offers) != 0 {
		t.Errorf("it is no longer known: offers %+v", l.Offers)
	}
	if plan := b.Plan(); plan == nil || !plan.HasOnePort(web) || plan.HasOnePort(catalog.MustServiceName("other")) {
		t.Error("the number of ports")
	}
}
