package gateway_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// TestUDPAgainstDirectAndARelay measures a question and its answer, and how many datagrams a
// second come back, through two gateways, through a relay of one socket each way, and without
// either; interleaved, as ratios. It runs on request: ISTHMUS_BENCH=1.
func TestUDPAgainstDirectAndARelay(t *testing.T) {
	if os.Getenv("ISTHMUS_BENCH") == "" {
		t.Skip("a benchmark: set ISTHMUS_BENCH=1")
	}
	at, _ := udpServer(t, func(p []byte) [][]byte { return [][]byte{p} })
	w, near, _ := udpWorld(t, at)
	near.listenUDP("echo")
	w.start()
	paths := []struct {
		name string
		at   netip.AddrPort
	}{{"direct", at}, {"relay", udpRelay(t, at)}, {"mesh", near.Addrs().UDP[0]}}
	delays, rates := map[string][]float64{}, map[string][]float64{}
	for range 7 {
		for _, p := range paths {
			c := dialUDP(t, p.at)
			c.ask("warm")
			delays[p.name] = append(delays[p.name], c.questions(2000).Seconds())
			rates[p.name] = append(rates[p.name], c.flood(time.Second, 64))
		}
	}
	median := func(m map[string][]float64, name string) float64 {
		all := slices.Sorted(slices.Values(m[name]))
		return all[len(all)/2]
	}
	for _, name := range []string{"direct", "relay"} {
		t.Logf("figure: UDP through two gateways against %s: delay of a question and its answer %.2f x, datagrams a second %.2f x",
			name, median(delays, "mesh")/median(delays, name), median(rates, "mesh")/median(rates, name))
	}
}

// questions is the median time of n questions, one after the other.
func (c *client) questions(n int) time.Duration {
	took := make([]time.Duration, 0, n)
	p := make([]byte, 200)
	for range n {
		start := time.Now()
		_, _ = c.Write(p)
		_ = c.SetReadDeadline(start.Add(time.Second))
		if _, err := c.Read(make([]byte, 300)); err == nil {
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// flood keeps a window of datagrams of 1,000 bytes on the way, and returns how many came back
// in a second.
func (c *client) flood(d time.Duration, window int) float64 {
	p := make([]byte, 1000)
	buf := make([]byte, 2000)
	start := time.Now()
	back, out := 0, 0
	for time.Since(start) < d {
		for ; out < window; out++ {
			_, _ = c.Write(p)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(buf); err != nil {
			out = 0 // lost
			continue
		}
		back++
		out--
	}
	return float64(back) / time.Since(start).Seconds()
}

// udpRelay forwards between its first caller and a server, as plainly as it can be done in Go.
func udpRelay(t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	flows := map[netip.AddrPort]*net.UDPConn{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 65536)
		for {
			n, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				for _, c := range flows {
					_ = c.Close()
				}
				return
			}
			back := flows[from]
			if back == nil {
				if back, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
					continue
				}
				flows[from] = back
				go func() {
					buf := make([]byte, 65536)
					for {
						n, err := back.Read(buf)
						if err != nil {
							return
						}
						_, _ = front.WriteToUDPAddrPort(buf[:n], from)
					}
				}()
			}
			_, _ = back.Write(buf[:n])
		}
	}()
	t.Cleanup(func() { _ = front.Close(); <-ended })
	return front.LocalAddr().(*net.UDPAddr).AddrPort()
}
