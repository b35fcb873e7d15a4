package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
)

// proxied is a world whose near gateway has two proxy ways: one that takes everybody for
// the cluster's caller, and one for users.
func proxied(t *testing.T) (near *node, w *world) {
	t.Helper()
	w = newWorld(t, "alpha", "beta")
	alpha, beta := w.cluster("alpha"), w.cluster("beta")
	beta.host("billing", catalog.HTTP, httpServer(t, who("billing")))
	beta.host("banner", catalog.TCP, tcpServer(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello\n") }))
	beta.host("echo", catalog.TCP, tcpServer(t, echo))
	alpha.host("closed", catalog.TCP, tcpServer(t, echo))
	alpha.rules = append([]policy.Intention{{
		Name: "closed", Services: []policy.ServicePattern{"closed.default"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Deny,
	}}, alpha.rules...)
	near = alpha.gateway("gw1")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	near.config.Proxy = []gateway.ProxyListener{
		{Address: "127.0.0.1:0", Caller: alpha.caller()},
		{Address: "127.0.0.1:0", Users: []gateway.ProxyUser{{Name: "ci", PasswordFile: password, Caller: "spiffe://alpha.test/ci"}}},
	}
	near.config.DNS = &gateway.DNS{Address: "127.0.0.1:0", Caller: alpha.caller(), Virtual: gateway.Virtual{Range: "127.80.0.0/16"}}
	near.config.Ports = []gateway.PortNumber{{Number: number(t), Services: []policy.ServicePattern{"echo.default"}}}
	beta.gateway("gw1")
	w.start()
	return near, w
}

// through is an HTTP client that uses a proxy way.
func (n *node) through(scheme string, way int, user *url.Userinfo) *http.Client {
	proxy := &url.URL{Scheme: scheme, Host: n.Addrs().Proxy[way].String(), User: user}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(proxy)}}
}

// TestClientsOfProxies: Go's own clients of SOCKS5, with and without a user.
func TestClientsOfProxies(t *testing.T) {
	near, w := proxied(t)
	caller := w.cluster("alpha").caller()
	ci := url.UserPassword("ci", "s3cret:x")
	for _, c := range []struct {
		client *http.Client
		want   string
	}{
		{near.through("socks5", 0, nil), caller}, {near.through("socks5h", 0, nil), caller}, {near.through("socks5", 1, ci), "spiffe://alpha.test/ci"},
	} {
		resp, err := c.client.Get("http://billing.default.mesh/x")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := parse(t, string(body)); got.Path != "/x" || !strings.Contains(got.Fields.Get("X-Forwarded-Client-Cert"), "URI="+c.want) {
			t.Errorf("%s: %s", c.want, body)
		}
	}
	for _, wrong := range []*url.Userinfo{nil, url.UserPassword("ci", "other"), url.UserPassword("root", "s3cret:x")} {
		if resp, err := near.through("socks5", 1, wrong).Get("http://billing.default.mesh/"); err == nil {
			_ = resp.Body.Close()
			t.Errorf("user %v is let in", wrong)
		}
	}
}

// connect sends text to a proxy way and returns the first line that comes back, and the rest.
func (n *node) proxyTalk(t *testing.T, way int, text string) (line, rest string) {
	t.Helper()
	c, err := net.Dial("tcp", n.Addrs().Proxy[way].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, text)
	_ = c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	line, rest, _ = strings.Cut(string(all), "\r\n")
	return line, rest
}

func TestAnswersToCONNECT(t *testing.T) {
	near, w := proxied(t)
	ask := func(target string) string { return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n" }
	near.proxyTalk(t, 0, ask("banner.default.mesh:1")+"\r\n") // the first finds its way
	// The server speaks first; and what is sent ahead arrives, once.
	if line, rest := near.proxyTalk(t, 0, ask("banner.default.mesh:1")+"\r\n"); line != "HTTP/1.1 200 Connection established" || rest != "\r\nhello\n" {
		t.Errorf("%q %q", line, rest)
	}
	ahead := strings.Repeat("GET / HTTP/1.1\r\n\r\n", 100)
	if line, rest := near.proxyTalk(t, 0, ask("echo.default.mesh:7")+"\r\n"+ahead); line != "HTTP/1.1 200 Connection established" || rest != "\r\n"+ahead {
		t.Errorf("%q, %d bytes of %d", line, len(rest)-2, len(ahead))
	}
	at, err := near.resolver("udp").LookupHost(t.Context(), "echo.default.mesh")
	if err != nil {
		t.Fatal(err)
	}
	if line, rest := near.proxyTalk(t, 0, ask(at[0]+":7")+"\r\nx"); line != "HTTP/1.1 200 Connection established" || rest != "\r\nx" {
		t.Errorf("a virtual address: %q %q", line, rest)
	}
	for text, want := range map[string]string{
		ask("nobody.default.mesh:80") + "\r\n":                                            "404 unknown_service",
		ask("www.example.org:443") + "\r\n":                                               "404 unknown_authority",
		ask("127.0.0.1:22") + "\r\n":                                                      "404 unknown_authority",
		ask("[::1]:22") + "\r\n":                                                          "404 unknown_authority",
		ask("federation.beta.mesh:80") + "\r\n":                                           "404 unknown_authority",
		ask("billing.default.mesh") + "\r\n":                                              "404 unknown_authority",
		ask("billing.default.mesh:0") + "\r\n":                                            "404 unknown_authority",
		ask("closed.default.mesh:80") + "\r\n":                                            "403 denied_by_intention",
		ask("billing.default.mesh:80") + "Content-Length: 5\r\n\r\nGET /":                 "400 malformed",
		ask("billing.default.mesh:80") + "X: a\r\n b\r\n\r\n":                             "400 malformed",
		"GET http://billing.default.mesh/ HTTP/1.1\r\nHost: billing.default.mesh\r\n\r\n": "405 method_not_allowed",
		"\x16\x03\x01\x02\x00\x01\r\n\r\n":                                                "400 malformed",
	} {
		line, rest := near.proxyTalk(t, 0, text)
		code, reason, _ := strings.Cut(want, " ")
		if !strings.HasPrefix(line, "HTTP/1.1 "+code) || !strings.Contains(rest, "Isthmus-Reason: "+reason+"\r\n") || !strings.Contains(rest, "Connection: close\r\n") {
			t.Errorf("%.40q: %q %q, want %s", text, line, rest, want)
		}
	}
	line, rest := near.proxyTalk(t, 1, ask("echo.default.mesh:7")+"\r\n")
	if !strings.HasPrefix(line, "HTTP/1.1 407") || !strings.Contains(rest, "Proxy-Authenticate: Basic") {
		t.Errorf("%q %q", line, rest)
	}
	if line, _ := near.proxyTalk(t, 1, ask("echo.default.mesh:7")+"Proxy-Authorization: Basic Y2k6czNjcmV0Ong=\r\n\r\n"); line != "HTTP/1.1 200 Connection established" {
		t.Errorf("%q", line)
	}
	w.cluster("beta").gateways[0].kill()
	eventually(t, "nobody has it any more", func() error {
		if line, _ := near.proxyTalk(t, 0, ask("echo.default.mesh:7")+"\r\n"); !strings.HasPrefix(line, "HTTP/1.1 503") {
			return errors.New(line)
		}
		return nil
	})
}

func TestAnswersToSOCKS(t *testing.T) {
	near, _ := proxied(t)
	request := func(command byte, name string) string {
		return "\x05\x01\x00\x05" + string(command) + "\x00\x03" + string(byte(len(name))) + name + "\x00\x50"
	}
	for name, c := range map[string]struct{ text, want string }{
		"echo":          {request(1, "echo.default.mesh") + "hello", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hello"},
		"unknown":       {request(1, "nobody.default.mesh"), "\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"},
		"elsewhere":     {request(1, "www.example.org"), "\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"},
		"denied":        {request(1, "closed.default.mesh"), "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"},
		"bind":          {request(2, "echo.default.mesh"), "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		"udp associate": {request(3, "echo.default.mesh"), "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		"an address":    {"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x16", "\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"},
		"version 4":     {"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
	} {
		line, rest := near.proxyTalk(t, 0, c.text)
		if line+rest != c.want {
			t.Errorf("%s: %q, want %q", name, line+rest, c.want)
		}
	}
}

// TestRealClientsOfProxies: curl by both protocols, through two clusters.
func TestRealClientsOfProxies(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	near, w := proxied(t)
	for _, args := range [][]string{
		{"--socks5-hostname", near.Addrs().Proxy[0].String()},
		{"--proxytunnel", "--proxy", "http://" + near.Addrs().Proxy[0].String()},
		{"--proxytunnel", "--proxy", "http://" + near.Addrs().Proxy[1].String(), "--proxy-user", "ci:s3cret:x"},
		{"--socks5-hostname", near.Addrs().Proxy[1].String(), "--proxy-user", "ci:s3cret:x"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, curl, append(args, "-sS", "http://billing.default.mesh/y")...).CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		want := w.cluster("alpha").caller()
		if strings.Contains(fmt.Sprint(args), "ci:") {
			want = "spiffe://alpha.test/ci"
		}
		if !strings.Contains(parse(t, string(out)).Fields.Get("X-Forwarded-Client-Cert"), "URI="+want) {
			t.Errorf("curl %v: %s", args, out)
		}
	}
}
