package protocols_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// curl and openssl meet an HTTPS server of another cluster through the SNI way in: its
// own certificate, HTTP/2 by ALPN, and TLS's own words where there is no such service.
func TestTLSPassthrough(t *testing.T) {
	curl, openssl := tools.Command(t, "curl"), tools.Command(t, "openssl")
	p := newPair(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s sni=%s\n", r.Proto, r.Host, r.TLS.ServerName)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	root := filepath.Join(t.TempDir(), "root.pem") // the test server's certificate is for example.com
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	p.services = append(p.services, stand.Service{
		Name: "web.shop", Port: "https", Protocol: "tls", Addresses: []string{netip.MustParseAddrPort(server.Listener.Addr().String()).String()},
	})
	p.west.WriteCatalog(t, p.services...)
	way := stand.FreePort(t)
	gateway := p.east.Gateways[0].Config["gateway"].(stand.Object)
	gateway["listen"].(stand.Object)["sni"] = []any{stand.Object{
		"address": way.String(), "caller": p.east.Caller(), "default": "_https.web.shop",
		"trust_domain": "1234.consul", "datacenters": stand.Object{"dc2": "west"}, "ports": stand.Object{"8443": "https"},
	}}
	p.Start()

	run := func(t *testing.T, command string, args ...string) (string, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
		return string(out), err
	}
	call := func(t *testing.T, name string) (string, error) {
		return run(t, curl, "-sS", "--insecure", "--connect-to", name+":443:"+way.String(), "https://"+name+"/")
	}
	stand.Eventually(t, time.Minute, "curl is answered", func() error {
		out, err := call(t, "web.shop.mesh")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	for _, name := range []string{
		"web.shop.mesh", "_https.web.shop.west.mesh", "web.shop.dc2.internal.1234.consul", "outbound_.8443_._.web.shop.svc.cluster.local",
	} {
		out, err := call(t, name)
		if want := "HTTP/2.0 " + name + " sni=" + name + "\n"; err != nil || out != want {
			t.Errorf("%s: %q, %v; want %q", name, out, err, want)
		}
	}
	out, err := call(t, "nobody.shop.mesh")
	if err == nil || !strings.Contains(out, "unrecognized name") {
		t.Errorf("curl of an unknown name: %v, %s", err, out)
	}
	// The certificate that is met is the endpoint's; -noservername sends no SNI.
	out, err = run(t, openssl, "s_client", "-connect", way.String(), "-noservername", "-CAfile", root, "-brief", "-verify_return_error")
	if err != nil || !strings.Contains(out, "Verification: OK") || !strings.Contains(out, tls.VersionName(tls.VersionTLS13)[len("TLS "):]) {
		t.Errorf("openssl without a name: %v, %s", err, out)
	}
}
