package refusals_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// call is what a gateway asks of another.
type call struct {
	header wire.Header
	method string // of a request; "" is GET
	path   string // "" is /
	fields http.Header
}

// byStream opens a stream, and says how it was answered.
func byStream(node *tunnel.Node, c *call) (wire.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := node.OpenStream(ctx, "beta", &c.header, nil)
	if err != nil {
		return 0, err
	}
	defer func() { s.Reset(wire.Canceled) }()
	reply, err := s.Status(ctx)
	return reply.Status, err
}

// byRequest sends a request, and says how it was answered: the status of a refusal, or
// that of HTTP.
func byRequest(node *tunnel.Node, c *call) (status wire.Status, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	method, path := c.method, c.path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://open.default"+path, nil)
	if err != nil {
		return 0, 0, err
	}
	if c.fields != nil {
		r.Header = c.fields
	}
	resp, err := node.RoundTrip("beta", &c.header, r)
	if refused, ok := errors.AsType[*tunnel.RefusedError](err); ok {
		return refused.Status, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return wire.OK, resp.StatusCode, nil
}

// TestAHostileGatewayGetsNothingMore: a gateway with the right identity of a peer asks
// for what its cluster must not have, by streams and by requests.
func TestAHostileGatewayGetsNothingMore(t *testing.T) {
	p := newPair(t)
	node := p.hostile("alpha", "gw2")
	good := call{header: wire.Header{Service: "open.default", Port: "main", Caller: alphaCaller}}
	if status, err := byStream(node, &good); err != nil || status != wire.OK {
		t.Fatalf("its own rights: %v, %v", status, err)
	}
	if _, code, err := byRequest(node, &good); err != nil || code != http.StatusOK {
		t.Fatalf("its own rights: %d, %v", code, err)
	}
	p.reached.Store(nil)
	service := func(name string) call {
		return call{header: wire.Header{Service: name, Port: "main", Caller: alphaCaller}}
	}
	caller := func(id string) call {
		return call{header: wire.Header{Service: "open.default", Port: "main", Caller: id}}
	}
	port := func(name string) call {
		return call{header: wire.Header{Service: "open.default", Port: name, Caller: alphaCaller}}
	}
	deep := "spiffe://alpha.test" + strings.Repeat("/a", 1000)
	for name, c := range map[string]call{
		"a service that is not exported": service("private.default"), "another tenant's service": service("tenant.default"), "a service that nobody has": service("nobody.default"),
		"a service in capitals": service("OPEN.default"), "a namespace in capitals": service("open.Default"), "a final dot": service("open.default."), "no namespace": service("open"),
		"a mesh name": service("open.default.mesh"), "a wildcard": service("*"), "a wildcard namespace": service("*.default"), "an address": service("127.0.0.1"), "an address and port": service("127.0.0.1:22"),
		"metadata": service("169.254.169.254"), "an ipv6 address": service("[::1]:22"), "a path": service("open.default/../private.default"), "two services": service("open.default,private.default"),
		"an escaped dot": service("open%2edefault"), "a long service": service(strings.Repeat("a", 2000) + ".default"), "a 64-byte label": service(strings.Repeat("a", 64) + ".default"),
		"another cluster's federation": service("federation.gamma"), "the own federation": service("federation.alpha"), "a federation in capitals": service("FEDERATION.beta"),
		"a service that only the caller's cluster has": service("imported.default"), "no intention for the service": service("guarded.default"),
		"no caller": caller(""), "a caller of the target's domain": caller("spiffe://beta.test/workload"), "a caller of a third cluster": caller("spiffe://gamma.test/workload"),
		"a caller of nobody's domain": caller("spiffe://evil.test/workload"), "a caller that no intention names": caller("spiffe://alpha.test/other"), "a caller below the allowed one": caller(alphaCaller + "/x"),
		"a caller above the allowed one": caller("spiffe://alpha.test"), "a caller with a final slash": caller(alphaCaller + "/"), "a caller in capitals": caller("SPIFFE://alpha.test/workload"),
		"a caller's domain in capitals": caller("spiffe://ALPHA.test/workload"), "a caller's path in capitals": caller("spiffe://alpha.test/WORKLOAD"), "a caller with dots": caller("spiffe://alpha.test/x/../workload"),
		"a caller with an escape": caller("spiffe://alpha.test/%77orkload"), "a caller with a query": caller(alphaCaller + "?x"), "a caller with a fragment": caller(alphaCaller + "#x"),
		"a caller with a port": caller("spiffe://alpha.test:443/workload"), "a caller with user info": caller("spiffe://x@alpha.test/workload"), "a caller with two slashes": caller("spiffe://alpha.test//workload"),
		"another scheme": caller("https://alpha.test/workload"), "a name for a caller": caller("workload"), "a list of callers": caller(alphaCaller + "," + "spiffe://alpha.test/other"), "a wildcard for a caller": caller("spiffe://alpha.test/*"),
		"the longest caller": caller(deep), "the gateway's own id as a caller": caller(clusterID("alpha") + "/gateway/gw2"), "the federation's id as a caller": caller(clusterID("alpha")),
		"a port that is not there": port("admin"), "a port number": port("22"), "a port in capitals": port("MAIN"), "an address for a port": port("127.0.0.1:22"),
	} {
		refuse(t, "hostile gateway, stream", "stream/"+name, func(t *testing.T) {
			status, err := byStream(node, &c)
			if err != nil {
				t.Fatalf("got %v, want a typed refusal", err)
			}
			if status == wire.OK {
				t.Error("the stream was accepted")
			}
			p.untouched(t)
		})
		refuse(t, "hostile gateway, request", "request/"+name, func(t *testing.T) {
			status, code, err := byRequest(node, &c)
			if err != nil {
				t.Fatalf("got %v, want a typed refusal", err)
			}
			if status == wire.OK {
				t.Errorf("the request was answered %d", code)
			}
			p.untouched(t)
		})
	}
	paths := func(method, path string, fields http.Header) call {
		return call{header: wire.Header{Service: "paths.default", Port: "main", Caller: alphaCaller}, method: method, path: path, fields: fields}
	}
	for name, c := range map[string]call{
		"another method": paths("DELETE", "/public/a", nil), "another path": paths("GET", "/private", nil), "a denied path": paths("GET", "/public/secret/x", nil), "dot segments": paths("GET", "/public/../private", nil),
		"escaped dots": paths("GET", "/public/%2e%2e/private", nil), "an escaped slash": paths("GET", "/public/secret%2fx", nil), "two slashes": paths("GET", "//public/a", nil),
		"a header twice": paths("GET", "/team", http.Header{"X-Team": {"blue", "red"}}), "a denied header": paths("GET", "/public/a", http.Header{"X-Debug": {""}}),
		"trace": {header: good.header, method: "TRACE"},
	} {
		refuse(t, "hostile gateway, conditions", "conditions/"+name, func(t *testing.T) {
			status, code, err := byRequest(node, &c)
			if err == nil && status == wire.OK && code < 400 {
				t.Errorf("the request was answered %d", code)
			}
			p.untouched(t)
		})
	}
	refuse(t, "hostile gateway, conditions", "a connection to a port without http, past an intention with conditions", func(t *testing.T) {
		p.intentions = append(p.intentions, p.intentions[0])
		last := &p.intentions[len(p.intentions)-1]
		last.Name, last.Action, last.HTTP = "zz-deny", "deny", p.intentions[2].HTTP
		p.push()
		tcp := service("tcp.default")
		deadline := time.Now().Add(20 * time.Second)
		for {
			status, err := byStream(node, &tcp)
			p.reached.Store(nil)
			if err == nil && status == wire.Denied {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, %v", status, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// TestAPeerSpeaksForItselfOnly: what gamma's gateways may, alpha's may not, and the
// other way around: the certificate says who asks, nothing else does.
func TestAPeerSpeaksForItselfOnly(t *testing.T) {
	p := newPair(t)
	node := p.hostile("gamma", "gw1")
	tenant := call{header: wire.Header{Service: "tenant.default", Port: "main", Caller: "spiffe://gamma.test/workload"}}
	if status, err := byStream(node, &tenant); err != nil || status != wire.OK {
		t.Fatalf("its own rights: %v, %v", status, err)
	}
	p.reached.Store(nil)
	for name, h := range map[string]wire.Header{
		"gamma asks for alpha's service":                   {Service: "open.default", Port: "main", Caller: "spiffe://gamma.test/workload"},
		"gamma asks for alpha's service as alpha's caller": {Service: "open.default", Port: "main", Caller: alphaCaller},
		"gamma speaks for alpha's caller":                  {Service: "tenant.default", Port: "main", Caller: alphaCaller},
		"gamma speaks for beta's caller":                   {Service: "tenant.default", Port: "main", Caller: "spiffe://beta.test/workload"},
		"gamma asks for alpha's federation":                {Service: "federation.alpha", Caller: clusterID("gamma")},
	} {
		refuse(t, "another peer", name, func(t *testing.T) {
			c := call{header: h}
			if status, err := byStream(node, &c); err != nil || status == wire.OK {
				t.Errorf("stream: %v, %v", status, err)
			}
			if status, code, err := byRequest(node, &c); err != nil || status == wire.OK {
				t.Errorf("request: %v %d, %v", status, code, err)
			}
			p.untouched(t)
		})
	}
}
