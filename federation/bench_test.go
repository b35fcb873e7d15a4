package federation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// BenchmarkChangeToGateway is the time from a source's change of one service to
// the gateway's new table, over real TLS, in catalogs of several sizes. The
// settling of 5 ms is in it.
func BenchmarkChangeToGateway(b *testing.B) {
	for _, n := range []int{10, 1_000, 5_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			c := newCluster(b, newWAN(), "east")
			services := make([]*catalog.Service, n)
			for i := range services {
				services[i] = service(fmt.Sprintf("svc-%05d.shop", i), 10)
			}
			c.source.publish(services...)
			c.start()
			g := c.gateway("gw-1")
			sized := func(last int) func(*route.Table) bool {
				return func(t *route.Table) bool { return len(t.Services) == n && len(t.Services[n-1].Endpoints) == last }
			}
			g.until("all", sized(10))
			size, worst := 10, time.Duration(0)
			for b.Loop() {
				size = 21 - size // 10 or 11
				services[n-1] = service(fmt.Sprintf("svc-%05d.shop", n-1), size)
				began := time.Now()
				c.source.publish(services...)
				g.until("the change", sized(size))
				worst = max(worst, time.Since(began))
			}
			bytes, _ := c.gauge("isthmus_federation_table_bytes", nil)
			b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
			b.ReportMetric(bytes/1e6, "table-MB")
		})
	}
}

// keep puts callers of a report that did not arrive into the next.
func (g *gateway) keep(callers []route.Sighting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.callers = append(callers, g.callers...)
}
