package endpoint_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers with the protocol that it was asked in and counts connections.
func server(t *testing.T) (*catalog.Endpoint, *atomic.Int64) {
	t.Helper()
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", r.Proto, r.Host)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return &catalog.Endpoint{ID: "e1", Address: s.Listener.Addr().(*net.TCPAddr).AddrPort()}, &conns
}

func ask(t *testing.T, p *endpoint.Pools, e *catalog.Endpoint, protocol catalog.Protocol, grpc bool) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://billing.default.mesh/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	if grpc {
		req.ProtoMajor = 2
		req.Header.Set("Content-Type", "application/grpc+proto")
	}
	resp, err := p.RoundTrip(e, protocol, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestProtocolFollowsThePort(t *testing.T) {
	e, conns := server(t)
	p := endpoint.New(endpoint.Options{})
	defer p.Close()
	for _, tt := range []struct {
		protocol catalog.Protocol
		grpc     bool
		want     string
	}{
		{catalog.HTTP, false, "HTTP/1.1 billing.default.mesh"},
		{catalog.HTTP, true, "HTTP/2.0 billing.default.mesh"},
		{catalog.GRPC, false, "HTTP/2.0 billing.default.mesh"},
		{catalog.GRPC, true, "HTTP/2.0 billing.default.mesh"},
	} {
		for range 3 {
			if got, err := ask(t, p, e, tt.protocol, tt.grpc); err != nil || got != tt.want {
				t.Errorf("%s, grpc %v: got %q, %v; want %q", tt.protocol, tt.grpc, got, err, tt.want)
			}
		}
	}
	if got := conns.Load(); got != 2 {
		t.Errorf("12 requests took %d connections, want one per protocol", got)
	}
}

func TestNoConnectionIsAConnectError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &catalog.Endpoint{ID: "gone", Address: l.Addr().(*net.TCPAddr).AddrPort()}
	_ = l.Close()
	p := endpoint.New(endpoint.Options{})
	defer p.Close()
	check := func(what string, err error) {
		t.Helper()
		ce, ok := errors.AsType[*retry.ConnectError](err)
		if !ok || ce.Endpoint != "gone" || ce.Status() != wire.Refused {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = p.Connect(t.Context(), e)
	check("raw", err)
	_, err = ask(t, p, e, catalog.HTTP, false)
	check("http/1.1", err)
	_, err = ask(t, p, e, catalog.GRPC, true)
	check("http/2", err)
}

func TestASilentEndpointIsGivenUpAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpoint.New(endpoint.Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		start := time.Now()
		_, err := p.Connect(t.Context(), &catalog.Endpoint{ID: "e", Address: netip.MustParseAddrPort("127.0.0.1:1")})
		ce, ok := errors.AsType[*retry.ConnectError](err)
		if !ok || ce.Status() != wire.Unreachable || time.Since(start) != endpoint.ConnectTimeout {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestTheOwnListenersAreNoEndpoints(t *testing.T) {
	p := endpoint.New(endpoint.Options{
		Own:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7080"), netip.MustParseAddrPort("0.0.0.0:5432")},
		Virtual: netip.MustParsePrefix("127.77.0.0/16"),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("dialed")
		},
	})
	for address, own := range map[string]bool{
		"127.0.0.1:7080": true, "[::ffff:127.0.0.1]:7080": true, "127.0.0.2:7080": false, "127.0.0.1:7081": false,
		"127.0.0.1:5432": true, "127.9.9.9:5432": true, "[::1]:5432": true, "10.0.0.1:5432": false,
		"127.77.1.2:80": true, "[::ffff:127.77.1.2]:80": true, "127.78.1.2:80": false,
	} {
		_, err := p.Connect(t.Context(), &catalog.Endpoint{ID: "e", Address: netip.MustParseAddrPort(address)})
		if errors.Is(err, endpoint.ErrOwnListener) != own {
			t.Errorf("%s: %v", address, err)
		}
	}
}
