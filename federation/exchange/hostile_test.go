package exchange_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// answer serves text as a stream that stays open.
func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// A peer that was taken over says everything that it could gain by: over a real
// connection, under its own good certificate. Nothing of it has an effect.
func TestHostilePeer(t *testing.T) {
	p := newPKI()
	s := newSite(t, p, http.NotFoundHandler())
	good := strings.Join(newScript().full(5, 10).put("web.shop", 1).sync(5, 10).lines, "\n") + "\n"
	const held = "5.10 web.shop=1"

	// It is attacked some thousand times as often as the back-off would allow.
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID), func(o *exchange.ImporterOptions) {
		o.Limits = exchange.DefaultLimits()
		o.Limits.UpdatesPerSecond, o.Limits.UpdateBurst = 1000, 100
	}))
	attack := func(h http.Handler, want func(exchange.Status) bool) {
		t.Helper()
		s.serve(h)
		s.cut()
		s.heal()
		eventually(t, func() (string, bool) { st := l.Status(); return fmt.Sprintf("%+v", st), want(st) })
		if got := show(l.Snapshot()); got != held {
			t.Fatalf("the state became %s", got)
		}
	}
	s.serve(answer(good))
	eventually(t, func() (string, bool) { got := show(l.Snapshot()); return got, got == held })

	for label, tc := range refusals() {
		t.Run(label, func(t *testing.T) {
			attack(answer(strings.Join(tc.say, "\n")+"\n"), func(st exchange.Status) bool {
				re, ok := errors.AsType[*exchange.RefusedError](st.Err)
				return ok && re.Reason == tc.want && st.State == exchange.StateRefused
			})
			s.serve(answer(good))
			s.cut()
			s.heal()
			eventually(t, func() (string, bool) { st := l.Status().State; return string(st), st == exchange.StateOK })
		})
	}
	refusedFor := func(want exchange.Reason) func(exchange.Status) bool {
		return func(st exchange.Status) bool {
			re, ok := errors.AsType[*exchange.RefusedError](st.Err)
			return ok && re.Reason == want
		}
	}
	failed := func(text string) func(exchange.Status) bool {
		return func(st exchange.Status) bool { return st.Err != nil && strings.Contains(st.Err.Error(), text) }
	}
	var elsewhere atomic.Int64
	lure := newSite(t, p, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 64<<20))
	_ = z.Close()
	for _, tc := range []struct {
		label string
		h     http.HandlerFunc
		want  func(exchange.Status) bool
	}{
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, refusedFor(exchange.ReasonDenied)},
		{"trouble", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, failed("answers 500")},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, lure.url(), http.StatusFound) }, failed("answers 302")},
		{"web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, good) }, refusedFor(exchange.ReasonProtocol)},
		{"line without an end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
					return
				}
			}
		}, refusedFor(exchange.ReasonQuota)},
		{"heartbeats without an end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			beat := newScript().full(5, 10).put("web.shop", 1).heartbeat(5, 10)
			_, _ = io.WriteString(w, good)
			for range 1000 {
				if _, err := io.WriteString(w, beat.lines[len(beat.lines)-1]+"\n"); err != nil {
					return
				}
			}
			<-r.Context().Done()
		}, refusedFor(exchange.ReasonRate)},
		{"packed answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed.Bytes())
		}, func(st exchange.Status) bool { return st.Err != nil && st.State != exchange.StateOK }},
	} {
		t.Run(tc.label, func(t *testing.T) { attack(tc.h, tc.want) })
	}
	if elsewhere.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

// In the view of all peers a hostile one changes nothing but its own offers.
func TestHostilePeerChangesNoOtherOffer(t *testing.T) {
	own, err := catalog.NewSnapshot("s", []*catalog.Service{{Name: name("web.shop"), Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}})
	if err != nil {
		t.Fatal(err)
	}
	honest := exchange.NewApplier(exchange.ApplierOptions{Cluster: "onprem", ID: spiffeid.RequireFromString("spiffe://onprem.example.org/isthmus/cluster/onprem")})
	say := strings.ReplaceAll(strings.Join(newScript().full(1, 1).put("web.shop", 1).sync(1, 1).lines, "\n"), `"cluster":"gcp"`, `"cluster":"onprem"`)
	if _, err := feed(honest, strings.Split(say, "\n"), t0); err != nil {
		t.Fatal(err)
	}
	view := func(hostile *exchange.Applier) *merge.View {
		return merge.Merge(merge.Input{
			Cluster: "aws", Sources: []merge.Source{{Name: "s", Snapshot: own}},
			Peers: []merge.Peer{
				{Cluster: "gcp", Summaries: hostile.Snapshot().Services()},
				{Cluster: "onprem", Summaries: honest.Snapshot().Services()},
			},
			Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
				return merge.Import{As: n}, true
			},
		})
	}
	quiet := newApplier()
	if _, err := feed(quiet, newScript().full(5, 10).put("web.shop", 1).sync(5, 10).lines, t0); err != nil {
		t.Fatal(err)
	}
	before := view(quiet)
	for label, tc := range refusals() {
		at := t0.Add(time.Hour)
		quiet.Connected()
		if _, err := feed(quiet, tc.say, at); err == nil {
			t.Errorf("%s: is not refused", label)
		}
		if !view(quiet).Equal(before) {
			t.Errorf("%s: changes the view", label)
		}
		quiet = newApplier()
		if _, err := feed(quiet, newScript().full(5, 10).put("web.shop", 1).sync(5, 10).lines, t0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhoIsServed(t *testing.T) {
	p := newPKI()
	e := newExporter(t)
	s := newSite(t, p, e)
	set(t, e, state(summary("web.shop", 1)))
	get := func(c *http.Client, path string) (int, string) {
		t.Helper()
		resp, err := c.Get(s.url() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	aws := newClient(t, p, awsID)
	status, body := get(aws, exchange.CatalogPath)
	if status != http.StatusOK || !strings.Contains(body, "web.shop") || !strings.Contains(body, `"type":"sync"`) {
		t.Errorf("list: %d %s", status, body)
	}
	if status, _ := get(aws, exchange.CatalogPath); status != http.StatusOK {
		t.Errorf("a second request on the connection: %d", status)
	}
	for label, tc := range map[string]struct {
		client *http.Client
		path   string
		status int
		reason string
	}{
		"another identity that the listener admits": {newClient(t, p, gcpID), exchange.CatalogPath, 403, "denied"},
		"epoch is no number":                        {aws, exchange.CatalogPath + "?epoch=x", 400, "bad_request"},
		"epoch is negative":                         {aws, exchange.CatalogPath + "?epoch=-1", 400, "bad_request"},
		"epoch at the end of numbers":               {aws, exchange.CatalogPath + "?epoch=18446744073709551615", 400, "bad_request"},
		"epoch twice":                               {aws, exchange.CatalogPath + "?epoch=1&epoch=2", 400, "bad_request"},
		"watch is no truth":                         {aws, exchange.CatalogPath + "?watch=maybe", 400, "bad_request"},
		"bad escape":                                {aws, exchange.CatalogPath + "?epoch=%zz", 400, "bad_request"},
		"very long query":                           {aws, exchange.CatalogPath + "?x=" + strings.Repeat("x", 5000), 400, "bad_request"},
		"explain where nobody explains":             {aws, exchange.ExplainPath, 404, "not_found"},
	} {
		t.Run(label, func(t *testing.T) {
			status, body := get(tc.client, tc.path)
			if status != tc.status || !strings.Contains(body, "urn:isthmus:problem:"+tc.reason) {
				t.Errorf("%d %s, want %d %s", status, body, tc.status, tc.reason)
			}
		})
	}
	resp, err := aws.Post(s.url()+exchange.CatalogPath, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	// The claim of a very high epoch costs the claimant its own feed's numbers only.
	if err := e.Set("onprem", state(summary("x.y", 1))); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(aws, exchange.CatalogPath+"?epoch=4611686018427387902"); status != http.StatusOK {
		t.Errorf("a high epoch: %d", status)
	}
	if got := e.Position("onprem"); got.Epoch != 1 {
		t.Errorf("another peer's epoch is %d", got.Epoch)
	}
}

func TestStreamsOfOnePeerAreBounded(t *testing.T) {
	p := newPKI()
	e := newExporter(t)
	s := newSite(t, p, e)
	set(t, e, state(summary("web.shop", 1)))
	c := newClient(t, p, awsID)
	var open []io.Reader
	last := 0
	for range 20 {
		resp, err := c.Get(s.url() + exchange.CatalogPath + "?watch=true")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		open = append(open, resp.Body)
		if last = resp.StatusCode; last != http.StatusOK {
			break
		}
	}
	if last != http.StatusTooManyRequests || len(open) != 9 {
		t.Errorf("stream %d is answered %d", len(open), last)
	}
	e.Close()
	e.Close()
	for _, body := range open { // all end, so that a server can shut down
		_, _ = io.ReadAll(body)
	}
}

func TestExplain(t *testing.T) {
	p := newPKI()
	big := strings.Repeat("x", 5<<20)
	e := newExporter(t, func(o *exchange.ExporterOptions) {
		o.Explain = func(_ context.Context, peer catalog.ClusterName, q url.Values) (any, error) {
			switch q.Get("service") {
			case "web.shop":
				return map[string]string{"peer": string(peer), "service": q.Get("service")}, nil
			case "big":
				return big, nil
			case "secret":
				return nil, &exchange.ExplainError{Status: http.StatusNotFound, Err: errors.New("is not exported")}
			}
			return nil, errors.New("the database's password is hunter2")
		}
	})
	s := newSite(t, p, e)
	i := newImporter(t, s.url(), newClient(t, p, awsID))
	ask := func(service string) (json.RawMessage, error) {
		return i.Explain(t.Context(), url.Values{"service": {service}})
	}
	if _, err := ask("web.shop"); err == nil {
		t.Error("a peer without exports is explained something")
	}
	set(t, e, state(summary("web.shop", 1)))
	got, err := ask("web.shop")
	if want := `{"peer":"aws","service":"web.shop"}`; err != nil || string(bytes.TrimSpace(got)) != want {
		t.Errorf("%s, %v", got, err)
	}
	_, err = ask("secret")
	wantRefused(t, err, exchange.ReasonDenied)
	_, err = ask("big")
	wantRefused(t, err, exchange.ReasonQuota)
	if _, err = ask("broken"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	limited := false
	for range 100 {
		_, err := ask("web.shop")
		limited = limited || err != nil && strings.Contains(err.Error(), "429")
	}
	if !limited {
		t.Error("a peer may ask without a bound")
	}
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "<html>")
	}))
	if _, err := ask("web.shop"); err == nil {
		t.Error("what is not JSON is returned")
	}
	s.cut()
	if _, err := ask("web.shop"); err == nil {
		t.Error("a dead peer explains")
	}
	s.heal()
}

func TestOptionsAreChecked(t *testing.T) {
	for label, o := range map[string]exchange.ExporterOptions{
		"cluster": {Peer: peerOf},
		"peer":    {Cluster: "gcp"},
	} {
		if _, err := exchange.NewExporter(o); err == nil || !strings.Contains(err.Error(), label) {
			t.Errorf("exporter without %s: %v", label, err)
		}
	}
	good := exchange.ImporterOptions{Cluster: "gcp", ID: gcpID, URL: "https://federation.gcp", Client: http.DefaultClient}
	if _, err := exchange.NewImporter(good); err != nil {
		t.Error(err)
	}
	for label, change := range map[string]func(*exchange.ImporterOptions){
		"cluster": func(o *exchange.ImporterOptions) { o.Cluster = "GCP" },
		"id":      func(o *exchange.ImporterOptions) { o.ID = spiffeid.ID{} },
		"url":     func(o *exchange.ImporterOptions) { o.URL = "federation.gcp" },
		"url:":    func(o *exchange.ImporterOptions) { o.URL = "https://federation.gcp/path" },
		"client":  func(o *exchange.ImporterOptions) { o.Client = nil },
	} {
		bad := good
		change(&bad)
		if _, err := exchange.NewImporter(bad); err == nil || !strings.Contains(err.Error(), label) {
			t.Errorf("importer without a good %s: %v", label, err)
		}
	}
}
