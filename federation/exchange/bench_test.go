package exchange_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// largest is a catalog at its quota of services, with ten rows each.
func largest() exchange.State {
	s := state()
	for i := range 5000 {
		v := summary(fmt.Sprintf("service-%d.namespace-%d", i, i%50), 1)
		v.Rows = nil
		for z := range 10 {
			v.Rows = append(v.Rows, catalog.SummaryRow{Port: "http", Zone: fmt.Sprintf("use1-az%d", z), Ready: 3, Total: 4})
		}
		s.Services = append(s.Services, v)
	}
	return s
}

func BenchmarkFullList(b *testing.B) {
	f := exchange.NewFeed("gcp", 1)
	if _, err := f.Set(largest()); err != nil {
		b.Fatal(err)
	}
	size := 0
	for _, l := range f.Since(exchange.Position{}, true) {
		size += len(l) + 1
	}
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := feed(newApplier(), f.Since(exchange.Position{}, true), t0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeltaOfOneService(b *testing.B) {
	f := exchange.NewFeed("gcp", 1)
	s := largest()
	if _, err := f.Set(s); err != nil {
		b.Fatal(err)
	}
	a := newApplier()
	if _, err := feed(a, f.Since(exchange.Position{}, true), t0); err != nil {
		b.Fatal(err)
	}
	at := t0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Services = slices.Clone(s.Services)
		s.Services[7] = summary("service-7.namespace-7", i%9)
		if _, err := f.Set(s); err != nil {
			b.Fatal(err)
		}
		have, full := a.Connected()
		at = at.Add(time.Second)
		if _, err := feed(a, f.Since(have, full), at); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTelling is one telling of ten changes to fifty listeners over real TCP and
// TLS, with what the listeners need to read it; us/listener is processor time.
func BenchmarkTelling(b *testing.B) {
	const listeners, changed = 50, 10
	for _, protocol := range []string{"h2", "http/1.1", exchange.Upgrade} {
		b.Run(protocol, func(b *testing.B) {
			p := newPKI()
			var turn atomic.Int64
			e := newExporter(b, func(o *exchange.ExporterOptions) {
				o.Peer = func(*http.Request) (catalog.ClusterName, error) {
					return catalog.ClusterName(fmt.Sprintf("p%03d", turn.Add(1)-1)), nil
				}
			})
			x := &told{exporter: e, roster: []catalog.Gateway{gateway("gw1")}}
			for i := range 400 {
				x.services = append(x.services, summary(fmt.Sprintf("s%05d.shop", i), 1))
			}
			for i := range listeners {
				x.listeners = append(x.listeners, catalog.ClusterName(fmt.Sprintf("p%03d", i)))
			}
			x.tell(b, 0, 1)
			s := newSite(b, p, e)
			heard := make(chan struct{}, listeners)
			for range listeners {
				client := newClient(b, p, awsID)
				if protocol != exchange.Upgrade {
					client = newClient(b, p, awsID, protocol)
				}
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.url()+exchange.CatalogPath+"?watch=true&epoch=0&since=0", http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				if protocol == exchange.Upgrade {
					client = streams(b, client)
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", exchange.Upgrade)
				}
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = resp.Body.Close() })
				go func() {
					lines := bufio.NewScanner(resp.Body)
					for lines.Scan() {
						if bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"sync"`)) {
							heard <- struct{}{}
						}
					}
				}()
				<-heard
			}
			time.Sleep(time.Second)
			began, n := cpuTime(), 0
			for b.Loop() {
				n++
				x.tell(b, changed, (n+1)%9)
				for range listeners {
					<-heard
				}
				b.StopTimer()
				time.Sleep(200 * time.Millisecond) // the least time between two batches
				b.StartTimer()
			}
			b.ReportMetric(float64((cpuTime()-began).Microseconds())/float64(n*listeners), "us/listener")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
