package gateway_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway"
)

// The federation hears by which addresses workloads call, also where a listener is
// on all of them: then only if the gateway was told how it is reached.
func TestReportsTellTheWaysIn(t *testing.T) {
	for name, c := range map[string]struct {
		advertise string
		want      []string
	}{
		"told how it is reached": {"10.0.0.5", []string{"tcp 10.0.0.5 db.shop main", "tcp 127.0.0.1 web.default ", "mesh 10.0.0.5 db.shop main", "http 10.0.0.5  "}},
		"not told":               {"", []string{"tcp 127.0.0.1 web.default "}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "alpha")
			n := w.cluster("alpha").gateway("gw1")
			from := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			l := &n.config.Listen
			l.WaysAdvertise, l.HTTP, l.HTTPSources = c.advertise, "0.0.0.0:0", from
			l.TCP = []gateway.TCPListener{
				{Address: "0.0.0.0:0", Service: "db.shop", Port: "main", Caller: w.cluster("alpha").caller(), Sources: from},
				{Address: "127.0.0.1:0", Service: "web", Caller: w.cluster("alpha").caller()},
			}
			n.config.Consul = new(gateway.Consul) // no agent is there, and none is needed for this
			l.MTLS = []gateway.MTLSListener{
				{Address: "0.0.0.0:0", Service: "db.shop", Port: "main", Identity: "consul"},
				{Address: "127.0.0.1:0", Service: "web"}, // for SVIDs: nobody finds it in Consul
			}
			w.start()
			eventually(t, "a report with the ways in", func() error {
				r := n.reports.last()
				if r == nil {
					return errors.New("no report")
				}
				var got []string
				for _, way := range r.Ways {
					if way.Address.Port() == 0 {
						return errors.New("a port that nobody can dial")
					}
					got = append(got, way.Kind+" "+way.Address.Addr().String()+" "+way.Service.String()+" "+way.Port)
				}
				if !slices.Equal(got, c.want) {
					return errors.New("got " + strings.Join(got, "; "))
				}
				return nil
			})
		})
	}
}
