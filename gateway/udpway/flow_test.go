package udpway

import (
	"net"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway/datagram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What comes faster than a path takes it is dropped, by datagrams and by bytes.
func TestTheQueueIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ size, kept int }{
		"small": {100, queueDatagrams}, "large": {60_000, queueBytes / 60_000},
	} {
		registry := prometheus.NewRegistry()
		metrics, err := datagram.NewMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		w := &Way{o: Options{Carrier: &datagram.Carrier{Metrics: metrics}}, sockets: map[*Socket]struct{}{}}
		f := newFlow(newSocket(w, conn, Target{}), key{from: netip.MustParseAddrPort("127.0.0.1:9")})
		const sent = 500
		for range sent {
			f.push(make([]byte, c.size))
		}
		if n := len(f.queue); n != c.kept {
			t.Errorf("%s: %d are kept, not %d", name, n, c.kept)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		dropped := 0.0
		for _, family := range families {
			if family.GetName() == "isthmus_gateway_datagrams_dropped_total" {
				dropped = family.Metric[0].GetCounter().GetValue()
			}
		}
		if int(dropped) != sent-c.kept {
			t.Errorf("%s: %v are counted as dropped", name, dropped)
		}
		for range c.kept {
			f.release(<-f.queue)
		}
		if n := f.bytes.Load(); n != 0 {
			t.Errorf("%s: %d bytes are still counted", name, n)
		}
		_ = conn.Close()
	}
}
