package gateway_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/control"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// connect asks a control listener for a target as the given identity.
func connect(t *testing.T, n *node, as *identity.Source, method, target string) (net.Conn, *bufio.Reader, *http.Response, error) {
	t.Helper()
	gatewayID := spiffeid.RequireFromString(n.cluster.id() + "/gateway/" + n.name)
	raw, err := net.Dial("tcp", n.Addrs().Control.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}} //nolint:gosec // the client without a certificate
	if as != nil {
		config = as.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(gatewayID))
	}
	c := tls.Client(raw, config)
	host := target
	if method != http.MethodConnect {
		host = "federation.beta:443"
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", method, target, host); err != nil {
		return nil, nil, nil, err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return c, r, resp, err
}

func TestTheOwnFederationReachesItsPeers(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	w.cluster("beta").federation = tcpServer(t, echo).String()
	near := w.cluster("alpha").gateway("gw1")
	w.cluster("beta").gateway("gw1")
	w.cluster("gamma").gateway("gw1") // its federation is not known to it
	w.start()
	alpha := w.cluster("alpha")
	federation := alpha.ca.Source(alpha.ca.ID("/isthmus/cluster/alpha"))

	c, r, resp, err := connect(t, near, federation, http.MethodConnect, "federation.beta:443") //nolint:bodyclose // by its clean-up
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "client hello")
	if _, err := io.ReadFull(r, make([]byte, len("client hello"))); err != nil {
		t.Fatal(err)
	}
	if n := w.cluster("beta").gateways[0].metric("isthmus_gateway_in_flight", "way=stream"); n != 1 {
		t.Errorf("%v streams at the far end", n)
	}

	for name, tt := range map[string]struct {
		method, target string
		status         int
		reason         string
	}{
		"own cluster":       {http.MethodConnect, "federation.alpha:443", 403, "target_not_allowed"},
		"other port":        {http.MethodConnect, "federation.beta:80", 403, "target_not_allowed"},
		"an address":        {http.MethodConnect, "127.0.0.1:443", 403, "target_not_allowed"},
		"a service":         {http.MethodConnect, "web.default:443", 403, "target_not_allowed"},
		"upper case":        {http.MethodConnect, "federation.BETA:443", 403, "target_not_allowed"},
		"no such cluster":   {http.MethodConnect, "federation.delta:443", 503, "unreachable"},
		"federation absent": {http.MethodConnect, "federation.gamma:443", 503, "no_endpoint"},
		"other method":      {http.MethodGet, "/", 405, "method_not_allowed"},
	} {
		_, _, resp, err := connect(t, near, federation, tt.method, tt.target) //nolint:bodyclose // by its clean-up
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var refusal control.Refusal
		if err := json.NewDecoder(resp.Body).Decode(&refusal); err != nil || resp.StatusCode != tt.status || refusal.Reason != tt.reason {
			t.Errorf("%s: %d %+v, %v; want %d %s", name, resp.StatusCode, refusal, err, tt.status, tt.reason)
		}
	}

	for name, as := range map[string]*identity.Source{
		"own gateway":              alpha.ca.Source(alpha.ca.ID("/isthmus/cluster/alpha/gateway/gw1")),
		"own workload":             alpha.ca.Source(alpha.ca.ID("/workload")),
		"another cluster, this TD": alpha.ca.Source(alpha.ca.ID("/isthmus/cluster/beta")),
		"the peer's federation":    w.cluster("beta").ca.Source(w.cluster("beta").ca.ID("/isthmus/cluster/beta"), alpha.ca.Bundle()),
		"no certificate":           nil,
	} {
		if _, _, resp, err := connect(t, near, as, http.MethodConnect, "federation.beta:443"); err == nil { //nolint:bodyclose // by its clean-up
			t.Errorf("%s was admitted: %d", name, resp.StatusCode)
		}
	}

	// A drain does not wait for the federations, whose streams never end.
	start := time.Now()
	near.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the drain took %v", took)
	}
	if _, err := r.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the stream: %v, want a reset", err)
	}
}
