package exchange_test

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

// small are quotas that a few lines can exceed.
func small() exchange.Limits {
	l := exchange.DefaultLimits()
	l.Services, l.Rows, l.Endpoints, l.Bytes, l.Gateways = 5, 8, 60, 2000, 2
	l.UpdatesPerSecond, l.UpdateBurst = 5, 10
	return l
}

// hostileLine draws one line of a peer that was taken over: mostly well formed,
// and wrong in one way; inside of a batch mostly what belongs there.
func hostileLine(t *rapid.T, s *script, at exchange.Position, inside bool) {
	number := func(label string, around uint64) int {
		return int(around) + rapid.IntRange(-2, 3).Draw(t, label)
	}
	service := rapid.SampledFrom([]string{
		"web.shop", "db.shop", "a.b", "c.d", "e.f", "g.h", "i.j", "k.l", "own.shop", "web.shop", "db.shop", "m.n", "federation.aws",
	})
	before := len(s.lines)
	kinds := rapid.IntRange(0, 12)
	if inside {
		kinds = rapid.SampledFrom([]int{4, 4, 4, 4, 6, 6, 8, 5, 4, 7})
	}
	switch kinds.Draw(t, "kind") {
	case 0, 1:
		s.full(number("epoch", at.Epoch), number("version", at.Version))
	case 2, 3:
		s.delta(number("epoch", at.Epoch), number("version", at.Version), number("since", at.Version))
	case 4, 5:
		s.put(service.Draw(t, "service"), rapid.IntRange(0, 9).Draw(t, "ready"))
	case 6:
		rows := make([]string, rapid.IntRange(0, 12).Draw(t, "rows"))
		for i := range rows {
			rows[i] = fmt.Sprintf(`{"port":"http","zone":"z%d","ready":1,"total":%d}`, i, rapid.SampledFrom([]int{1, 9, 1 << 30}).Draw(t, "total"))
		}
		name := service.Draw(t, "service")
		s.putRaw(name, fmt.Sprintf(`{"service":%q,"ports":[{"name":"http","protocol":"http"}],"rows":[%s]}`, name, strings.Join(rows, ",")))
	case 7:
		s.remove(service.Draw(t, "service"))
	case 8:
		s.roster("[" + gatewayJSON(rapid.SampledFrom([]string{"gw-1", "gw-2", "x"}).Draw(t, "gateway"),
			rapid.SampledFrom([]string{"192.0.2.1:1", "127.0.0.1:1", "169.254.169.254:80"}).Draw(t, "address")) + "]")
	case 9:
		s.roster(strings.ReplaceAll("["+gatewayJSON("gw-1", "192.0.2.1:1")+"]", "gcp.example.org", "onprem.example.org"))
	case 10, 11:
		s.sync(number("epoch", at.Epoch), number("version", at.Version))
	default:
		s.heartbeat(number("epoch", at.Epoch), number("version", at.Version))
	}
	line := &s.lines[before]
	switch rapid.IntRange(0, 40).Draw(t, "harm") {
	case 0:
		*line = strings.Replace(*line, `"cluster":"gcp"`, `"cluster":"onprem"`, 1)
	case 1:
		*line = (*line)[:len(*line)/2]
	case 2:
		*line += strings.Repeat(" ", 3<<20)
	default:
	}
}

// Whatever a hostile peer says: what others said stays as it was, its own stays
// within its quota, positions never fall, and what is refused changes nothing.
func TestHostileCatalogs(t *testing.T) {
	own, err := catalog.NewSnapshot("s", []*catalog.Service{{Name: name("own.shop"), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}})
	if err != nil {
		t.Fatal(err)
	}
	honest := exchange.NewApplier(exchange.ApplierOptions{Cluster: "onprem", ID: spiffeid.RequireFromString("spiffe://onprem.example.org/isthmus/cluster/onprem")})
	say := strings.ReplaceAll(strings.Join(newScript().full(1, 1).put("web.shop", 1).put("db.shop", 2).sync(1, 1).lines, "\n"), `"cluster":"gcp"`, `"cluster":"onprem"`)
	if _, err := feed(honest, strings.Split(say, "\n"), t0); err != nil {
		t.Fatal(err)
	}
	catalogs, lines, refused, applied := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		limits := small()
		a := newApplier(func(o *exchange.ApplierOptions) { o.Limits = limits })
		at := t0
		for range rapid.IntRange(1, 8).Draw(t, "streams") {
			a.Connected()
			s := newScript()
			well := rapid.IntRange(0, 3).Draw(t, "begins well") > 0
			if well {
				p := a.Snapshot().Position()
				s.full(int(p.Epoch)+1, 1)
			}
			for range rapid.IntRange(1, 12).Draw(t, "lines") {
				hostileLine(t, s, a.Snapshot().Position(), well)
			}
			if well {
				s.sync(int(a.Snapshot().Position().Epoch)+1, 1)
			}
			for _, line := range s.lines {
				lines++
				at = at.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "ms")) * time.Millisecond)
				before, shown := a.Snapshot().Position(), show(a.Snapshot())
				if _, err := a.Apply([]byte(line), at); err != nil {
					refused++
					if show(a.Snapshot()) != shown {
						t.Fatalf("a refused line changed the state: %.200s", line)
					}
					break // the stream ends
				}
				if before != a.Snapshot().Position() {
					applied++
				}
				if a.Snapshot().Position().Before(before) {
					t.Fatalf("the position fell from %v to %v", before, a.Snapshot().Position())
				}
			}
			catalogs++
			within(t, a.Snapshot(), limits)
			onlyItsOwn(t, own, honest.Snapshot(), a.Snapshot())
		}
	})
	t.Logf("figure: %d hostile streams of %d lines, %d applied, %d refused, nothing of others changed", catalogs, lines, applied, refused)
	if applied == 0 || refused == 0 {
		t.Error("the property was not tried")
	}
}

// within checks what is held of the peer against its quota, counted anew.
func within(t *rapid.T, s *exchange.Snapshot, l exchange.Limits) {
	rows, endpoints := 0, 0
	for _, v := range s.Services() {
		rows += len(v.Rows)
		for _, r := range v.Rows {
			endpoints += int(r.Total)
		}
	}
	if n := len(s.Services()); n > l.Services || rows > l.Rows || endpoints > l.Endpoints || len(s.Gateways()) > l.Gateways {
		t.Fatalf("held: %d services, %d rows, %d endpoints, %d gateways", n, rows, endpoints, len(s.Gateways()))
	}
	for _, g := range s.Gateways() {
		if !strings.HasPrefix(g.ID, peerID+"/gateway/") {
			t.Fatalf("a gateway of another cluster: %+v", g)
		}
	}
}

// onlyItsOwn checks that in the view of all, what is of others does not depend on
// the hostile one.
func onlyItsOwn(t *rapid.T, own *catalog.Snapshot, honest, hostile *exchange.Snapshot) {
	view := func(peers ...merge.Peer) *merge.View {
		return merge.Merge(merge.Input{
			Cluster: "aws", Sources: []merge.Source{{Name: "s", Snapshot: own}}, Peers: peers, Order: []catalog.ClusterName{"onprem", "gcp"},
			Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
				return merge.Import{As: n}, true
			},
		})
	}
	good := merge.Peer{Cluster: "onprem", Summaries: honest.Services()}
	want, got := view(good), view(good, merge.Peer{Cluster: "gcp", Summaries: hostile.Services()})
	for s := range want.All() {
		same := false
		for o := range got.All() {
			if o.Name != s.Name {
				continue
			}
			same = reflect.DeepEqual(s.Local, o.Local)
			for _, offer := range s.Offers {
				found := false
				for _, x := range o.Offers {
					found = found || x.Cluster == offer.Cluster && reflect.DeepEqual(x.Rows, offer.Rows)
				}
				same = same && found
			}
		}
		if !same {
			t.Fatalf("what others say of %s is changed", s.Name)
		}
	}
	for s := range got.All() {
		if s.Name.IsFederation() {
			t.Fatalf("a reserved name was taken: %s", s.Name)
		}
	}
}

// What is above a quota is refused by name, counted, and the last good state goes
// on being used; how much of each quota is used is a metric.
func TestQuotasOfOneOrigin(t *testing.T) {
	p := newPKI()
	s := newSite(t, p, http.NotFoundHandler())
	reg := prometheus.NewRegistry()
	m, err := exchange.NewImporterMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID), func(o *exchange.ImporterOptions) {
		o.Limits, o.Metrics = small(), m
		o.Limits.UpdatesPerSecond, o.Limits.UpdateBurst = 1000, 100
	}))
	good := newScript().full(5, 1).put("web.shop", 1).put("db.shop", 2).sync(5, 1).lines
	s.serve(answer(strings.Join(good, "\n") + "\n"))
	eventually(t, func() (string, bool) { st := l.Status(); return string(st.State), st.State == exchange.StateOK })
	held := show(l.Snapshot())
	much := newScript().full(6, 1)
	for i := range 6 {
		much.put(fmt.Sprintf("svc-%d.shop", i), 1)
	}
	s.serve(answer(strings.Join(much.sync(6, 1).lines, "\n") + "\n"))
	s.cut()
	s.heal()
	eventually(t, func() (string, bool) {
		st := l.Status()
		return fmt.Sprint(st.Err), st.State == exchange.StateRefused && strings.Contains(fmt.Sprint(st.Err), "quota: services: value 6: at most 5 of one origin")
	})
	if show(l.Snapshot()) != held {
		t.Errorf("the last good state became %s", show(l.Snapshot()))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if n := label.GetName(); n == "quota" || n == "reason" {
					got[f.GetName()+" "+label.GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	if got["isthmus_exchange_quota_used_ratio services"] != 0.4 || got["isthmus_exchange_quota_used_ratio rows"] != 0.25 ||
		got["isthmus_exchange_refused_batches_total quota"] == 0 {
		t.Errorf("metrics: %v", got)
	}
}

// flood serves changes as fast as they are read.
func flood(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := newScript()
	epoch := int(time.Now().Unix()) // above what was said before
	s.full(epoch, 1).put("web.shop", 0).sync(epoch, 1)
	for version := 2; r.Context().Err() == nil; version++ {
		if _, err := io.WriteString(w, strings.Join(s.lines, "\n")+"\n"); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		s.lines = nil
		s.delta(epoch, version, version-1).put("web.shop", version%9).sync(epoch, version)
	}
}

// One peer changes what it says as fast as it can. It gets what its quota allows,
// and the changes of another are seen as soon as without it: within the exporter's
// own gap between two batches.
func TestAFloodingPeerDelaysNobody(t *testing.T) {
	const bound = 300 * time.Millisecond
	simulate(t, func(t *testing.T, _ *wire, e *exchange.Exporter, client *http.Client) {
		w := newWire()
		server := &http.Server{Handler: http.HandlerFunc(flood), ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(w)
		}()
		tr := &http.Transport{DialContext: w.dial}
		var taken atomic.Int64 // by the importer's goroutine
		var noisy *exchange.Importer
		noisy = newImporter(t, farURL, &http.Client{Transport: tr}, func(o *exchange.ImporterOptions) {
			o.Random = func() float64 { return 0.1 }
			last := exchange.Position{}
			o.Changed = func() {
				if p := noisy.Snapshot().Position(); p != last {
					last = p
					taken.Add(1)
				}
			}
		})
		var quiet []*listener
		for range 4 {
			quiet = append(quiet, listen(t, newImporter(t, farURL, client)))
		}
		loud := listen(t, noisy)
		began := time.Now()
		worst := time.Duration(0)
		for n := range 60 {
			ready := n%9 + 1
			set(t, e, state(summary("web.shop", ready)))
			told := time.Now()
			for _, l := range quiet {
				for !strings.Contains(show(l.Snapshot()), fmt.Sprintf("web.shop=%d ", ready)) {
					if time.Since(told) > time.Minute {
						t.Fatalf("a change is not seen: %s", show(l.Snapshot()))
					}
					time.Sleep(time.Millisecond)
				}
			}
			worst = max(worst, time.Since(told))
			time.Sleep(time.Second)
		}
		if worst > bound {
			t.Errorf("a change of the quiet peer took %v beside a flood, the bound is %v", worst, bound)
		}
		limits := exchange.DefaultLimits()
		most := limits.UpdateBurst + limits.UpdatesPerSecond*time.Since(began).Seconds()
		if n := taken.Load(); float64(n) > most || n == 0 {
			t.Errorf("%d changes of the flood were taken, at most %v are its quota", n, most)
		}
		t.Logf("figure: beside a flood a change is seen within %v on the simulated clock; %d changes of the flood were taken in %v", worst, taken.Load(), time.Since(began))
		synctest.Wait()
		for _, l := range append(quiet, loud) {
			l.close()
		}
		tr.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
}
