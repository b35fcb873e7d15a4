package refusals_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask sends a request, as it is written, to alpha's HTTP way.
func (p *pair) ask(request string) (status int, reason string) {
	return p.askAt(p.alpha.Addrs().HTTP.String(), request)
}

// askAt returns the status of the answer, 0 where the connection ended without one.
func (p *pair) askAt(address, request string) (status int, reason string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(c, request) }() // it may be more than is read
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Isthmus-Reason")
}

// TestRequestsAreRefused: what a workload can write into a request opens nothing that
// it may not have, and is answered or reset, never forwarded.
func TestRequestsAreRefused(t *testing.T) {
	p := newPair(t)
	p.reached.Store(nil)
	label63 := strings.Repeat("a", 63)
	for name, host := range map[string]string{
		"empty": "", "a dot": ".", "only the suffix": ".mesh", "one label": "open", "wildcard": "*", "wildcard service": "*.default.mesh",
		"wildcard namespace": "open.*.mesh", "percent wildcard": "%2a.default", "two final dots": "open.default.mesh..", "empty namespace": "open..mesh",
		"leading dot": ".open.default.mesh", "inner space": "open .default", "tab": "open\t.default", "underscore": "op_en.default", "leading hyphen": "-open.default",
		"final hyphen": "open-.default", "idn": "öpen.default", "kelvin sign": "\u212apen.default", "full width": "ｏpen.default", "full-width dot": "open。default",
		"zero width": "op\u200ben.default", "punycode of nobody": "xn--pen-rna.default", "user info": "x@open.default", "a path in it": "open.default/x", "a query in it": "open.default?x",
		"a fragment in it": "open.default#x", "backslash": "open.default\\x", "a comma": "open.default,guarded.default", "two names": "open.default guarded.default",
		"ipv4": "127.0.0.1", "ipv4 and port": "127.0.0.1:7481", "ipv6": "[::1]", "mapped": "[::ffff:127.0.0.1]", "metadata": "169.254.169.254", "metadata name": "metadata.google.internal",
		"localhost": "localhost", "port letters": "open.default:http", "port too high": "open.default:65536", "port negative": "open.default:-1", "port empty": "open.default:",
		"two ports": "open.default:80:80", "another zone": "open.default.svc.cluster.example", "more labels": "a.open.default.beta.mesh", "64-byte label": label63 + "a.default",
		"255 bytes": strings.Repeat(label63+".", 3) + label63, "256 bytes": strings.Repeat(label63+".", 4), "8 KiB": strings.Repeat("a", 8<<10),
		"nobody": "nobody.default", "another tenant's": "tenant.default", "another tenant's, pinned": "tenant.default.beta.mesh", "not exported": "private.default.mesh",
		"not exported, pinned": "private.default.beta.mesh", "no intention": "guarded.default", "pinned to the own cluster": "open.default.alpha.mesh",
		"pinned to nobody": "open.default.delta.mesh", "pinned to a peer without it": "open.default.gamma.mesh", "another port": "_admin.open.default", "an empty port": "_.open.default",
		"a federation": "federation.beta", "a federation, pinned": "federation.beta.beta.mesh", "a federation in capitals": "FEDERATION.BETA.MESH", "own federation": "federation.alpha.mesh",
		"imported by the other side only": "imported.default",
	} {
		refuse(t, "names", name, func(t *testing.T) {
			if status, reason := p.ask("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"); status != 0 && status < 400 {
				t.Errorf("%q: %d %s", host, status, reason)
			}
			p.untouched(t)
		})
	}
	for name, path := range map[string]string{
		"two slashes": "//public/a", "two slashes inside": "/public//secret/a", "escaped dots": "/public/%2e%2e/private", "escaped dots in capitals": "/public/%2E%2E/private",
		"dot segments": "/public/../private", "a single dot": "/public/./secret/x", "an escaped slash": "/public/secret%2fx", "an escaped slash in capitals": "/public/secret%2Fx",
		"an escaped letter": "/public/%73ecret/x", "escaped twice": "/public/%252e%252e/private", "a parameter": "/public/secret;/x", "an escaped parameter": "/public/secret%3b/x",
		"a backslash": "/public\\..\\private", "an escaped backslash": "/public%5c..%5cprivate", "overlong utf-8": "/public/secret%c0%afx", "a null byte": "/public/secret%00", "a line end": "/public/a%0d%0ax",
		"bad escape": "/public/%zz", "cut escape": "/public/%2", "the denied one": "/public/secret/x", "the denied one in another case": "/public/SECRET/x", "the denied one itself": "/public/secret",
		"the prefix itself": "/public", "another case": "/PUBLIC/a", "no path": "*", "another path": "/private", "a longer first segment": "/publicity/a", "a query for a path": "/?/public/a",
	} {
		refuse(t, "paths", name, func(t *testing.T) {
			for _, address := range []string{p.alpha.Addrs().HTTP.String(), p.alpha.Addrs().TCP[1].String()} {
				if status, reason := p.askAt(address, "GET "+path+" HTTP/1.1\r\nHost: paths.default\r\n\r\n"); status != 0 && status < 400 {
					t.Errorf("%s: %d %s", path, status, reason)
				}
			}
			p.untouched(t)
		})
	}
	long := strings.Repeat("x", 70<<10)
	for name, request := range map[string]string{
		"another method":            "DELETE /public/a HTTP/1.1\r\nHost: paths.default\r\n\r\n",
		"a method in another case":  "get /public/a HTTP/1.1\r\nHost: paths.default\r\n\r\n",
		"connect":                   "CONNECT open.default:443 HTTP/1.1\r\nHost: open.default\r\n\r\n",
		"connect to an address":     "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"trace":                     "TRACE / HTTP/1.1\r\nHost: open.default\r\n\r\n",
		"a header twice":            "GET /team HTTP/1.1\r\nHost: paths.default\r\nX-Team: blue\r\nX-Team: red\r\n\r\n",
		"a header twice, reversed":  "GET /team HTTP/1.1\r\nHost: paths.default\r\nX-Team: red\r\nX-Team: blue\r\n\r\n",
		"a header as a list":        "GET /team HTTP/1.1\r\nHost: paths.default\r\nX-Team: blue, red\r\n\r\n",
		"a header in two spellings": "GET /team HTTP/1.1\r\nHost: paths.default\r\nX-Team: blue\r\nX_Team: red\r\n\r\n",
		"a header in another case":  "GET /team HTTP/1.1\r\nHost: paths.default\r\nX-Team: BLUE\r\n\r\n",
		"no header":                 "GET /team HTTP/1.1\r\nHost: paths.default\r\n\r\n",
		"a denied header":           "GET /public/a HTTP/1.1\r\nHost: paths.default\r\nx-DEBUG: 1\r\n\r\n",
		"a denied header, empty":    "GET /public/a HTTP/1.1\r\nHost: paths.default\r\nX-Debug:\r\n\r\n",
		"a denied header with _":    "GET /public/a HTTP/1.1\r\nHost: paths.default\r\nX_Debug: 1\r\n\r\n",
		"two hosts":                 "GET / HTTP/1.1\r\nHost: open.default\r\nHost: guarded.default\r\n\r\n",
		"no host":                   "GET / HTTP/1.1\r\n\r\n",
		"another host in the line":  "GET http://guarded.default/ HTTP/1.1\r\nHost: open.default\r\n\r\n",
		"two lengths":               "POST / HTTP/1.1\r\nHost: open.default\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"length and coding":         "POST / HTTP/1.1\r\nHost: open.default\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two codings":               "POST / HTTP/1.1\r\nHost: open.default\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"an unknown coding":         "POST / HTTP/1.1\r\nHost: open.default\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"coding in http/1.0":        "POST / HTTP/1.0\r\nHost: open.default\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a signed length":           "POST / HTTP/1.1\r\nHost: open.default\r\nContent-Length: +1\r\n\r\nx",
		"bare lf":                   "GET / HTTP/1.1\nHost: open.default\n\n",
		"bare cr":                   "GET / HTTP/1.1\r\nHost: open.default\r\nX: a\rb\r\n\r\n",
		"a folded line":             "GET / HTTP/1.1\r\nHost: open.default\r\nX: a\r\n b\r\n\r\n",
		"space before the colon":    "GET / HTTP/1.1\r\nHost : open.default\r\n\r\n",
		"a null byte":               "GET / HTTP/1.1\r\nHost: open.default\r\nX: a\x00b\r\n\r\n",
		"a bad name":                "GET / HTTP/1.1\r\nHost: open.default\r\nX(: a\r\n\r\n",
		"another version":           "GET / HTTP/3.0\r\nHost: open.default\r\n\r\n",
		"no version":                "GET /\r\nHost: open.default\r\n\r\n",
		"h2c upgrade of a denied":   "GET /private HTTP/1.1\r\nHost: paths.default\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"upgrade of a denied":       "GET /private HTTP/1.1\r\nHost: paths.default\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a long path":               "GET /" + long + " HTTP/1.1\r\nHost: open.default\r\n\r\n",
		"a long field":              "GET / HTTP/1.1\r\nHost: open.default\r\nX: " + long + "\r\n\r\n",
		"a long name":               "GET / HTTP/1.1\r\nHost: open.default\r\n" + long + ": x\r\n\r\n",
		"many fields":               "GET / HTTP/1.1\r\nHost: open.default\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n",
		"a long method":             long + " / HTTP/1.1\r\nHost: open.default\r\n\r\n",
	} {
		refuse(t, "requests", name, func(t *testing.T) {
			if status, reason := p.ask(request); status != 0 && status < 400 {
				t.Errorf("%d %s", status, reason)
			}
			p.untouched(t)
		})
	}
}
