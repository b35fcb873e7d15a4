package syncout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/consul/syncout"
)

// A thousand imports are far more than a cluster takes from others; all of them
// are on one node, for which Consul's writes cost more the more it holds.
func TestRealConsulAThousandImports(t *testing.T) {
	t.Parallel()
	const imports = 1000
	a, c := realAgent(t, consultest.Options{})
	ways := make([]syncout.Way, imports)
	for i := range ways {
		ways[i] = way(fmt.Sprint("s", i), fmt.Sprintf("10.9.0.1:%d", 10_000+i), true)
	}
	o := &offers{}
	o.set(ways...)
	began := time.Now()
	registry, _ := start(t, "east", "f1", o, c)
	entries := func(want float64) {
		t.Helper()
		eventually(t, fmt.Sprint(want, " entries"), func() error {
			node, _, err := a.Client().Catalog().Node("isthmus-east", nil)
			if err == nil && node != nil && float64(len(node.Services)) == want && metric(t, registry, "entries", "true") == want {
				return nil
			}
			return errWaiting
		})
	}
	entries(imports)
	all := time.Since(began)
	writes := metric(t, registry, "writes_total", "")
	time.Sleep(2 * time.Second)
	if n := metric(t, registry, "writes_total", ""); n != writes {
		t.Errorf("%v writes while nothing changed", n-writes)
	}
	began = time.Now()
	o.set(ways[:imports/2]...)
	entries(imports / 2)
	t.Logf("figure: sync-out: %d imports were registered in %.1f s, half of them removed in %.1f s", imports, all.Seconds(), time.Since(began).Seconds())
}
