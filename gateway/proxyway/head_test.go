package proxyway

import (
	"bufio"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func parse(text string) (head, *bufio.Reader, error) {
	r := bufio.NewReaderSize(strings.NewReader(text), maxHead)
	h, err := readHead(r)
	return h, r, err
}

func TestHeads(t *testing.T) {
	long := strings.Repeat("x", maxHead)
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"plain":              {"CONNECT web.shop.mesh:80 HTTP/1.1\r\nHost: web.shop.mesh:80\r\n\r\n", nil},
		"version 1.0":        {"CONNECT web.shop.mesh:80 HTTP/1.0\r\n\r\n", nil},
		"other fields":       {"CONNECT web:80 HTTP/1.1\r\nUser-Agent: x y\r\nhOsT:\tWEB:80 \r\nX-Empty:\r\n\r\n", nil},
		"another method":     {"GET http://web.shop.mesh/ HTTP/1.1\r\nHost: web.shop.mesh\r\n\r\n", errMethod},
		"small letters":      {"connect web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", errMethod},
		"no host":            {"CONNECT web:80 HTTP/1.1\r\n\r\n", errHead},
		"two hosts":          {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nHost: web:80\r\n\r\n", errHead},
		"another host":       {"CONNECT web:80 HTTP/1.1\r\nHost: db:80\r\n\r\n", errHead},
		"bare LF":            {"CONNECT web:80 HTTP/1.1\nHost: web:80\n\n", errHead},
		"bare LF in fields":  {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\n\r\n", errHead},
		"bare CR":            {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nX: a\rb\r\n\r\n", errHead},
		"NUL":                {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\x00\r\n\r\n", errHead},
		"folded":             {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nX: a\r\n b\r\n\r\n", errHead},
		"space before colon": {"CONNECT web:80 HTTP/1.1\r\nHost : web:80\r\n\r\n", errHead},
		"no colon":           {"CONNECT web:80 HTTP/1.1\r\nHost\r\n\r\n", errHead},
		"content length":     {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nContent-Length: 0\r\n\r\n", errHead},
		"transfer encoding":  {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nTransfer-Encoding: chunked\r\n\r\n", errHead},
		"two spaces":         {"CONNECT  web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", errHead},
		"no version":         {"CONNECT web:80\r\nHost: web:80\r\n\r\n", errHead},
		"version 2":          {"CONNECT web:80 HTTP/2.0\r\nHost: web:80\r\n\r\n", errHead},
		"an empty line":      {"\r\nCONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", errHead},
		"a long line":        {"CONNECT " + long + " HTTP/1.1\r\n\r\n", errHead},
		"a long head":        {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nX: " + long[:maxHead/2] + "\r\nY: " + long[:maxHead/2] + "\r\n\r\n", errHead},
		"many fields":        {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n" + strings.Repeat("X: y\r\n", maxFields) + "\r\n", errHead},
		"two credentials":    {"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nProxy-Authorization: Basic YTpi\r\nProxy-Authorization: Basic YTpj\r\n\r\n", errHead},
	} {
		if _, _, err := parse(c.text); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for value, want := range map[string]user{
		"Basic YTpiOmM=": {"a", "b:c"}, "basic YTo=": {"a", ""}, "Basic YQ==": {}, "Basic !": {}, "Bearer YTpi": {}, "": {},
	} {
		h, _, err := parse("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nProxy-Authorization: " + value + "\r\n\r\n")
		if err != nil || h.user == nil || *h.user != want {
			t.Errorf("%q: %v, %v", value, h.user, err)
		}
	}
}

// FuzzHead: what is taken for a head is one for net/http, too, with the same target, and
// both end it at the same byte: nothing can hide behind it.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"CONNECT web.shop.mesh:80 HTTP/1.1\r\nHost: web.shop.mesh:80\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"CONNECT a:1 HTTP/1.0\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic YTpi\r\nX:\ty\r\n\r\n\x00",
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, r, err := parse(text)
		if err != nil {
			return
		}
		rest := r.Buffered()
		other := bufio.NewReaderSize(strings.NewReader(text), maxHead)
		req, err := http.ReadRequest(other)
		if err != nil {
			if _, _, valid := strings.Cut(h.authority, ":"); !valid || strings.ContainsAny(h.authority, "%/?#[]@\\") {
				return // no authority for either; refused when it is read as a name
			}
			t.Skipf("net/http is stricter: %v", err)
		}
		if req.Method != http.MethodConnect || req.ContentLength != 0 || len(req.TransferEncoding) != 0 || other.Buffered() != rest {
			t.Fatalf("%q: we leave %d bytes, net/http %d and content of %d", text, rest, other.Buffered(), req.ContentLength)
		}
	})
}
