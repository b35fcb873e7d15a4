package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// script is a mesh listener that says what a test tells it to: package mesh
// would never.
type script struct {
	ca      *identitytest.CA
	id      spiffeid.ID
	address string
	opened  atomic.Int32
	stop    func()
}

// serve listens on address (":0" for any) as the federation with that ID.
func serve(t *testing.T, ca *identitytest.CA, id spiffeid.ID, address string, handler http.HandlerFunc) *script {
	t.Helper()
	s := &script{ca: ca, id: id}
	own := ca.Source(id, ca.Bundle())
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.opened.Add(1)
			handler(w, r)
		}),
		TLSConfig:         own.ServerTLS([]string{"h2", "http/1.1"}, identity.AuthorizeAny()),
		ReadHeaderTimeout: patience,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	s.stop = func() {
		cancel()
		_ = srv.Close()
		<-done
	}
	t.Cleanup(s.stop)
	return s
}

func newGateway(t *testing.T, s *script) *client.Gateway {
	t.Helper()
	g, err := client.NewGateway(client.GatewayOptions{
		Address: s.address, FederationID: s.id,
		Identity: s.ca.Source(spiffeid.RequireFromString(s.id.String()+"/gateway/gw-1"), s.ca.Bundle()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func run(t *testing.T, g *client.Gateway) <-chan *route.Table {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tables, done := make(chan *route.Table, 64), make(chan error, 1)
	go func() { done <- g.Run(ctx, func(t *route.Table) { tables <- t }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return tables
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func line(format int, epoch, version uint64, id string) string {
	b, err := json.Marshal(mesh.TableLine{Table: &route.Table{
		Format: format, Epoch: epoch, Version: version, Cluster: route.Cluster{Name: "east", ID: id},
	}})
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

// say writes lines and keeps the stream open.
func say(w http.ResponseWriter, r *http.Request, lines ...string) {
	for _, l := range lines {
		_, _ = io.WriteString(w, l)
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// What must not become a gateway's table: the stream ends, and what follows in
// it is not believed either.
func TestTablesThatAreRefused(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	id := ca.ID("/isthmus/cluster/east")
	good := line(route.TableFormat, 5, 5, id.String())
	for name, bad := range map[string]string{
		"a newer format":       line(route.TableFormat+1, 6, 1, id.String()),
		"of another cluster":   line(route.TableFormat, 6, 1, ca.ID("/isthmus/cluster/west").String()),
		"an older version":     line(route.TableFormat, 5, 4, id.String()),
		"an older epoch":       line(route.TableFormat, 4, 9, id.String()),
		"the same again":       good,
		"no JSON":              "{\n",
		"another type of JSON": "[]\n",
	} {
		t.Run(name, func(t *testing.T) {
			var streams atomic.Int32
			positions := make(chan string, 64)
			s := serve(t, ca, id, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
				positions <- r.URL.RawQuery
				if streams.Add(1) == 1 {
					say(w, r, good, bad, line(route.TableFormat, 9, 9, id.String()))
					return
				}
				say(w, r, line(route.TableFormat, 7, 1, id.String()))
			})
			tables := run(t, newGateway(t, s))
			if got := receive(t, tables); got.Version != 5 {
				t.Fatalf("first table %+v", got)
			}
			if got := receive(t, tables); got.Epoch != 7 {
				t.Fatalf("second table (%d, %d), want the next stream's (7, 1)", got.Epoch, got.Version)
			}
			if first, second := <-positions, <-positions; first != "epoch=0&patch=1&version=0" || second != "epoch=5&patch=1&version=5" {
				t.Errorf("asked with %q, then %q", first, second)
			}
		})
	}
}

// A federation that dies and comes back is found again, by itself.
func TestComesBackAfterARestart(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	id := ca.ID("/isthmus/cluster/east")
	tell := func(version uint64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			say(w, r, line(route.TableFormat, 1, version, id.String()))
		}
	}
	s := serve(t, ca, id, "127.0.0.1:0", tell(1))
	tables := run(t, newGateway(t, s))
	receive(t, tables)
	s.stop()
	time.Sleep(300 * time.Millisecond) // a few attempts find nobody
	began := time.Now()
	serve(t, ca, id, s.address, tell(2))
	if got := receive(t, tables); got.Version != 2 {
		t.Fatalf("table %d, want 2", got.Version)
	}
	t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
}

// Whoever answers at the address must be the federation itself.
func TestOnlyTheFederationIsBelieved(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	id := ca.ID("/isthmus/cluster/east")
	for name, who := range map[string]struct {
		ca *identitytest.CA
		id spiffeid.ID
	}{
		"another workload of the trust domain":  {ca, ca.ID("/isthmus/cluster/east/gateway/gw-2")},
		"the same id by another authority":      {identitytest.NewCA("east.test"), id},
		"the same path in another trust domain": {identitytest.NewCA("west.test"), spiffeid.RequireFromString("spiffe://west.test/isthmus/cluster/east")},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, who.ca, who.id, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
				say(w, r, line(route.TableFormat, 1, 1, id.String()))
			})
			s.ca, s.id = ca, id
			g := newGateway(t, s)
			if err := g.Send(t.Context(), &route.Report{}); err == nil {
				t.Fatal("a report was sent")
			}
			var pe *identity.PeerError
			if err := g.Send(t.Context(), &route.Report{}); !errors.As(err, &pe) {
				t.Errorf("Send = %v, want a *identity.PeerError", err)
			}
			if s.opened.Load() != 0 {
				t.Errorf("%d requests reached the stranger", s.opened.Load())
			}
		})
	}
}

func TestSendTellsRefusalFromSilence(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	s := serve(t, ca, ca.ID("/isthmus/cluster/east"), "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"type":"urn:isthmus:problem:forbidden","detail":"not you"}`)
	})
	g := newGateway(t, s)
	err := g.Send(t.Context(), &route.Report{})
	var se *client.StatusError
	if !errors.As(err, &se) || se.Status != http.StatusForbidden || se.Code() != "forbidden" || !strings.Contains(se.Error(), "not you") {
		t.Errorf("Send = %v", err)
	}
	s.stop()
	if err := g.Send(t.Context(), &route.Report{}); err == nil || errors.As(err, &se) && se.Status == 0 {
		t.Errorf("Send to nobody = %v", err)
	}
	// A federation that takes the report and never answers costs its deadline.
	hang := serve(t, ca, s.id, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	if err := newGateway(t, hang).Send(t.Context(), &route.Report{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send to one that hangs = %v after %v", err, time.Since(began))
	}
}

func TestGatewayOptions(t *testing.T) {
	ca := identitytest.NewCA("east.test")
	id := ca.ID("/isthmus/cluster/east")
	for name, o := range map[string]client.GatewayOptions{
		"no address":  {Identity: ca.Source(id), FederationID: id},
		"no port":     {Address: "localhost", Identity: ca.Source(id), FederationID: id},
		"no identity": {Address: "localhost:1", FederationID: id},
		"no id":       {Address: "localhost:1", Identity: ca.Source(id)},
	} {
		if _, err := client.NewGateway(o); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("{}\n{\"heartbeat\":{\"epoch\":1}}\n", 100)
	f.Add(strings.Repeat("[", 1000), 50)
	f.Add(fmt.Sprintf("{\"x\":%q}", strings.Repeat("y", 200)), 64)
	f.Fuzz(func(t *testing.T, stream string, limit int) {
		if limit < 1 || limit > 1<<16 {
			return
		}
		read, ends := client.ReadLines(strings.NewReader(stream), int64(limit))
		if ends == nil {
			t.Error("a stream ended without an error")
		}
		for _, n := range read {
			if n > 2*limit+4096 { // the decoder reads ahead
				t.Errorf("a value of %d bytes with limit %d", n, limit)
			}
		}
	})
}
