package exchange_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/prometheus/client_golang/prometheus"
)

const roster = "gw1@gw1.example.org:7443 gw2@gw2.example.org:7443"

func TestAFederationHearsAnother(t *testing.T) {
	for _, protocol := range []string{"h2", "http/1.1", exchange.Upgrade} {
		t.Run(protocol, func(t *testing.T) {
			protocols := []string{protocol}
			if protocol == exchange.Upgrade {
				protocols = nil
			}
			p := newPKI()
			e := newExporter(t)
			s := newSite(t, p, e)
			var bundles, changes atomic.Int64
			l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID, protocols...), func(o *exchange.ImporterOptions) {
				if protocols != nil {
					o.Streams = nil
				}
				o.Bundle = func(doc json.RawMessage) error {
					if bundles.Add(1); string(doc) != `{"keys":[]}` {
						t.Errorf("bundle %s", doc)
					}
					return nil
				}
				o.Changed = func() { changes.Add(1) }
			}))
			full := state(summary("web.shop", 1), summary("db.shop", 2))
			full.Bundle = json.RawMessage(`{ "keys": [] }`)
			set(t, e, full)
			l.shows(t, `db.shop=2 web.shop=1 `+roster+` bundle:{"keys":[]}`)
			db := l.Snapshot().Services()[0]

			full.Services = []*catalog.Summary{summary("web.shop", 3), full.Services[1], summary("new.shop", 4)}
			set(t, e, full)
			l.shows(t, `db.shop=2 new.shop=4 web.shop=3 `+roster+` bundle:{"keys":[]}`)
			if l.Snapshot().Services()[0] != db {
				t.Error("an unchanged service is another pointer")
			}
			full.Services = nil
			set(t, e, full)
			l.shows(t, roster+` bundle:{"keys":[]}`)
			st := l.Status()
			if st.State != exchange.StateOK || st.Err != nil || st.ControlLost || st.HeardAt.IsZero() || st.Position != e.Position("aws") {
				t.Errorf("status: %+v, the exporter is at %v", st, e.Position("aws"))
			}
			if bundles.Load() != 1 || changes.Load() < 3 {
				t.Errorf("%d bundles, %d changes", bundles.Load(), changes.Load())
			}
		})
	}
}

func TestNothingIsToldBeforeThereIsSomethingToTell(t *testing.T) {
	p := newPKI()
	dir := t.TempDir()
	first := newExporter(t)
	s := newSite(t, p, first)
	set(t, first, state(summary("web.shop", 1)))
	withStore := func(o *exchange.ImporterOptions) {
		kept, err := store.NewLastGood("test", dir, "gcp")
		if err != nil {
			t.Fatal(err)
		}
		o.Store = kept
	}
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID), withStore))
	l.shows(t, "web.shop=1 "+roster)
	l.close()

	// Both sides start anew; the peer's federation knows nothing yet.
	second := newExporter(t)
	s.serve(second)
	i := newImporter(t, s.url(), newClient(t, p, awsID), withStore)
	if err := i.Load(); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := cutPosition(show(i.Snapshot())); got != "web.shop=1 "+roster {
		t.Fatalf("from disk: %s", got)
	}
	l = listen(t, i)
	eventually(t, func() (string, bool) {
		st := l.Status()
		return string(st.State), st.Attempt > 2 && st.Err != nil && strings.Contains(st.Err.Error(), "503")
	})
	if st := l.Status(); st.State != exchange.StateConnecting || st.ControlLost {
		t.Errorf("status: %+v", st)
	}
	l.shows(t, "web.shop=1 "+roster)
	set(t, second, state(summary("web.shop", 7)))
	l.shows(t, "web.shop=7 "+roster)
}

func TestPartitionAndHeal(t *testing.T) {
	p := newPKI()
	e := newExporter(t)
	s := newSite(t, p, e)
	set(t, e, state(summary("web.shop", 1), summary("db.shop", 1)))
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
	l.shows(t, "db.shop=1 web.shop=1 "+roster)
	for round := range 5 {
		s.cut()
		set(t, e, state(summary("web.shop", round)))
		eventually(t, func() (string, bool) { st := l.Status().State; return string(st), st == exchange.StateConnecting })
		before := show(l.Snapshot())
		if round == 0 && !strings.Contains(before, "db.shop=1 web.shop=1") {
			t.Errorf("during the partition: %s", before)
		}
		s.heal()
		l.shows(t, "web.shop="+string(rune('0'+round))+" "+roster)
	}
}

// The exporter's process is replaced: by one that remembers its epoch, by one
// whose disk was restored from a backup, and by one that lost it.
func TestExporterRestarts(t *testing.T) {
	p := newPKI()
	var disk atomic.Uint64
	remember := func(o *exchange.ExporterOptions) {
		o.LoadEpoch = func(catalog.ClusterName) (uint64, error) { return disk.Load(), nil }
		o.SaveEpoch = func(_ catalog.ClusterName, epoch uint64) error { disk.Store(epoch); return nil }
	}
	s := newSite(t, p, http.NotFoundHandler())
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
	restart := func(services ...*catalog.Summary) *exchange.Exporter {
		e := newExporter(t, remember)
		set(t, e, state(services...))
		s.serve(e)
		s.cut()
		s.heal()
		return e
	}
	restart(summary("a.shop", 1))
	l.shows(t, "a.shop=1 "+roster)
	restart(summary("b.shop", 1))
	l.shows(t, "b.shop=1 "+roster)
	if got := l.Status().Position; got != (exchange.Position{Epoch: 2, Version: 1}) {
		t.Errorf("after a restart: %v", got)
	}
	disk.Store(0) // all is lost
	e := restart(summary("c.shop", 1))
	l.shows(t, "c.shop=1 "+roster)
	if got := l.Status().Position; got.Epoch != 3 || e.Position("aws") != got || disk.Load() != 3 {
		t.Errorf("after the loss: the listener is at %v, the exporter at %v, on disk is %d", got, e.Position("aws"), disk.Load())
	}
	disk.Store(1) // an older backup
	restart(summary("d.shop", 1))
	l.shows(t, "d.shop=1 "+roster)
	if got := l.Status().Position.Epoch; got != 4 {
		t.Errorf("after the backup: epoch %d", got)
	}
	remember = func(o *exchange.ExporterOptions) {
		fail := errors.New("disk is gone")
		o.LoadEpoch = func(catalog.ClusterName) (uint64, error) { return 0, fail }
		o.SaveEpoch = func(catalog.ClusterName, uint64) error { return fail }
	}
	restart(summary("e.shop", 1))
	l.shows(t, "e.shop=1 "+roster)
}

// The stream dies after each of its lines and within each: the listener has what
// it had, and the next stream makes it right.
func TestStreamDiesAtEachEvent(t *testing.T) {
	p := newPKI()
	old := newScript().full(1, 1).put("old.shop", 1).roster("["+gatewayJSON("gw1", "a:1")+"]").sync(1, 1)
	fresh := newScript().full(2, 1).put("web.shop", 2).put("db.shop", 2).roster("["+gatewayJSON("gw1", "b:1")+"]").bundle(`{"keys":[]}`).sync(2, 1).heartbeat(2, 1)
	const wasOld, isFresh = "old.shop=1 gw1@a:1", `db.shop=2 web.shop=2 gw1@b:1 bundle:{"keys":[]}`

	var say atomic.Pointer[string]
	var died atomic.Int64
	s := newSite(t, p, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, *say.Load())
		_ = http.NewResponseController(w).Flush()
		died.Add(1)
		panic(http.ErrAbortHandler)
	}))
	stream := strings.Join(fresh.lines, "\n") + "\n"
	var cuts []int
	for i := range stream {
		if stream[i] == '\n' {
			cuts = append(cuts, i/2, i, i+1)
		}
	}
	whole := strings.Index(stream, `{"type":"heartbeat"`)
	for _, cut := range cuts {
		good := strings.Join(old.lines, "\n") + "\n"
		say.Store(&good)
		l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
		l.shows(t, wasOld)
		torn := stream[:cut]
		before := died.Load()
		say.Store(&torn)
		eventually(t, func() (string, bool) { return "", died.Load() > before+1 })
		want := wasOld
		if cut >= whole {
			want = isFresh
		}
		l.shows(t, want)
		if _, got, _ := cutPosition(show(l.Snapshot())); got != want {
			t.Errorf("cut at %d of %d: %s", cut, whole, got)
		}
		say.Store(&stream)
		l.shows(t, isFresh)
		l.close()
	}
}

func TestRestartWithEverythingElseDead(t *testing.T) {
	p := newPKI()
	dir := t.TempDir()
	e := newExporter(t)
	s := newSite(t, p, e)
	st := state(summary("web.shop", 1))
	st.Bundle = json.RawMessage(`{"keys":[]}`)
	set(t, e, st)
	var bundles []string
	start := func() *exchange.Importer {
		kept, err := store.NewLastGood("test", dir, "gcp")
		if err != nil {
			t.Fatal(err)
		}
		return newImporter(t, s.url(), newClient(t, p, awsID), func(o *exchange.ImporterOptions) {
			o.Store = kept
			o.Bundle = func(doc json.RawMessage) error { bundles = append(bundles, string(doc)); return nil }
		})
	}
	const want = `web.shop=1 ` + roster + ` bundle:{"keys":[]}`
	l := listen(t, start())
	l.shows(t, want)
	heard := l.Status().HeardAt
	l.close()
	s.cut()

	files, _ := filepath.Glob(filepath.Join(dir, "gcp.*.good"))
	if len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	i := start()
	if err := i.Load(); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := cutPosition(show(i.Snapshot())); got != want {
		t.Errorf("from disk: %s", got)
	}
	if st := i.Status(); st.HeardAt.IsZero() || st.HeardAt.After(heard.Add(time.Second)) || st.ControlLost || st.Position.Version != 1 {
		t.Errorf("status: %+v, was heard at %v", st, heard)
	}
	if len(bundles) != 2 || bundles[1] != `{"keys":[]}` {
		t.Errorf("bundles: %q", bundles)
	}
	// A damaged file is passed over, and without a good one it starts with nothing.
	data, _ := os.ReadFile(files[0])
	data[len(data)/2] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	i = start()
	if err := i.Load(); err == nil || i.Snapshot() != nil {
		t.Errorf("damaged: %v, %v", err, i.Snapshot())
	}
	s.heal()
	l = listen(t, i)
	l.shows(t, want)
}

func TestRemovedPeerIsCutAtOnce(t *testing.T) {
	p := newPKI()
	reg := prometheus.NewPedanticRegistry()
	e := newExporter(t, func(o *exchange.ExporterOptions) { o.Registerer = reg })
	s := newSite(t, p, e)
	set(t, e, state(summary("web.shop", 1)))
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
	l.shows(t, "web.shop=1 "+roster)
	if n := series(t, reg, "aws"); n != 4 {
		t.Errorf("%d series of the peer, want 4", n)
	}
	if got := e.Peers(); len(got) != 1 || got[0] != "aws" {
		t.Errorf("peers %v", got)
	}
	e.Remove("aws")
	eventually(t, func() (string, bool) { st := l.Status(); return string(st.State), st.State != exchange.StateOK })
	l.close()
	eventually(t, func() (string, bool) { return "", series(t, reg, "aws") == 0 })
	if e.Position("aws") != (exchange.Position{}) || len(e.Peers()) != 0 {
		t.Error("the peer is remembered")
	}
}

func series(t testing.TB, reg prometheus.Gatherer, peer string) (n int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "peer" && l.GetValue() == peer {
					n++
				}
			}
		}
	}
	return n
}

func TestImporterMetricsLeaveWithThePeer(t *testing.T) {
	p := newPKI()
	reg := prometheus.NewPedanticRegistry()
	m, err := exchange.NewImporterMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	e := newExporter(t)
	s := newSite(t, p, e)
	set(t, e, state(summary("web.shop", 1)))
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID), func(o *exchange.ImporterOptions) { o.Metrics = m }))
	l.shows(t, "web.shop=1 "+roster)
	eventually(t, func() (string, bool) { return "", series(t, reg, "gcp") >= 6 })
	l.close()
	if n := series(t, reg, "gcp"); n != 0 {
		t.Errorf("%d series are left", n)
	}
	if _, err := exchange.NewImporterMetrics(reg); err == nil {
		t.Error("the same instruments are registered twice")
	}
}
