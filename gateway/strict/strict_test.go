package strict_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/strict"
)

// reader is a connection that only gives bytes, in pieces of a size.
type reader struct {
	net.Conn
	data []byte
	size int
}

func (r *reader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.size)], r.data)
	r.data = r.data[n:]
	return n, nil
}

// judge reads data through a Conn and returns what was let through.
func judge(data string, size int) (string, error) {
	got, err := io.ReadAll(strict.NewConn(&reader{data: []byte(data), size: size}, strict.Options{MaxHead: 1024}))
	return string(got), err
}

func TestGoodRequestsPassUnchanged(t *testing.T) {
	for name, data := range map[string]string{
		"get":             "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"http/1.0":        "GET / HTTP/1.0\r\n\r\n",
		"length":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\x00c",
		"chunked":         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\na\nb\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
		"trailers":        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
		"pipelined":       "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
		"empty value":     "GET / HTTP/1.1\r\nHost:\r\nX:\r\n\r\n",
		"tab in a value":  "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n",
		"obs-text":        "GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
		"http/2":          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\n\n",
		"cut in the head": "GET / HTTP/1.1\r\nHo",
		"length of zero":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		for _, size := range []int{1, 7, 4096} {
			if got, err := judge(data, size); err != nil || got != data {
				t.Errorf("%s in pieces of %d: %q, %v", name, size, got, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	post := func(fields, body string) string {
		return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body
	}
	for name, data := range map[string]string{
		"bare lf after the request line": "GET / HTTP/1.1\nHost: a\r\n\r\n",
		"bare lf after a field":          "GET / HTTP/1.1\r\nHost: a\n\r\n",
		"bare lf as the empty line":      "GET / HTTP/1.1\r\nHost: a\r\n\n",
		"bare cr":                        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
		"cr cr lf":                       "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
		"nul":                            "GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n",
		"delete":                         "GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n",
		"folded line":                    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
		"folded by a tab":                "GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n",
		"space before the colon":         "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"no colon":                       "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
		"no name":                        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
		"no host":                        "GET / HTTP/1.1\r\n\r\n",
		"two hosts":                      "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
		"te and cl":                      post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
		"cl and te":                      post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
		"te twice":                       post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
		"te identity":                    post("Transfer-Encoding: identity\r\n", ""),
		"te gzip, chunked":               post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
		"te with a vertical tab":         post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
		"te of http/1.0":                 "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"cl twice, the same":             post("Content-Length: 1\r\nContent-Length: 1\r\n", "a"),
		"cl as a list":                   post("Content-Length: 1, 1\r\n", "a"),
		"cl with a plus":                 post("Content-Length: +1\r\n", "a"),
		"cl negative":                    post("Content-Length: -1\r\n", "a"),
		"cl in hex":                      post("Content-Length: 0x1\r\n", "a"),
		"cl empty":                       post("Content-Length:\r\n", "a"),
		"cl beyond 63 bits":              post("Content-Length: 99999999999999999999\r\n", "a"),
		"chunk size with bare lf":        post("Transfer-Encoding: chunked\r\n", "1\na\r\n0\r\n\r\n"),
		"chunk size with 0x":             post("Transfer-Encoding: chunked\r\n", "0x1\r\na\r\n0\r\n\r\n"),
		"chunk size empty":               post("Transfer-Encoding: chunked\r\n", "\r\na\r\n0\r\n\r\n"),
		"chunk size with a sign":         post("Transfer-Encoding: chunked\r\n", "+1\r\na\r\n0\r\n\r\n"),
		"chunk size with a space":        post("Transfer-Encoding: chunked\r\n", "1 \r\na\r\n0\r\n\r\n"),
		"chunk longer than its size":     post("Transfer-Encoding: chunked\r\n", "1\r\nab\r\n0\r\n\r\n"),
		"chunk end with bare lf":         post("Transfer-Encoding: chunked\r\n", "1\r\na\n0\r\n\r\n"),
		"chunk extension too long":       post("Transfer-Encoding: chunked\r\n", "1;"+strings.Repeat("x", 300)+"\r\na\r\n0\r\n\r\n"),
		"trailer with bare lf":           post("Transfer-Encoding: chunked\r\n", "0\r\nA: b\n\r\n"),
		"trailer folded":                 post("Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n c\r\n\r\n"),
		"http/0.9":                       "GET /\r\n\r\n",
		"http/1.2":                       "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
		"http/2 as text":                 "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
		"two spaces":                     "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"space in the target":            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"tab for space":                  "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"method with a colon":            "GE:T / HTTP/1.1\r\nHost: a\r\n\r\n",
		"empty line first":               "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"preface as the second request":  "GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"garbage after a body":           post("Content-Length: 1\r\n", "a\r\n"),
		"head too large":                 post("X: "+strings.Repeat("x", 1100)+"\r\n", ""),
		"second of a pipeline":           "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost: a\r\n\r\n",
	} {
		for _, size := range []int{1, 7, 4096} {
			got, err := judge(data, size)
			e, ok := errors.AsType[*strict.Error](err)
			if !ok || !strings.HasPrefix(data, got) || len(got) == len(data) {
				t.Errorf("%s in pieces of %d: %q, %v", name, size, got, err)
			}
			if ok && e.Rule == "" {
				t.Errorf("%s: no rule", name)
			}
		}
	}
}

// serve runs net/http behind a Conn over a real socket and returns all that it
// answers to data.
func serve(t *testing.T, data string) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ConnState: strict.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.URL.Path)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(&strict.Listener{Listener: inner, MaxHead: 4096}) })
	defer func() { _ = server.Close(); wg.Wait() }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, data); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestTheServerAnswers400AfterTheGoodOnes(t *testing.T) {
	got := serve(t, "GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "/good") ||
		!strings.Contains(got, "HTTP/1.1 400 Bad Request\r\n") || strings.Contains(got, "/bad") || strings.Contains(got, "/smuggled") {
		t.Fatalf("got %q", got)
	}
}

func TestAReleasedConnIsNotJudged(t *testing.T) {
	data := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	c := strict.NewConn(&reader{data: []byte(data + "\n\n\x00 anything"), size: len(data)}, strict.Options{MaxHead: 1024})
	if _, err := io.ReadFull(c, make([]byte, len(data))); err != nil {
		t.Fatal(err)
	}
	c.Release()
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "\n\n\x00 anything" {
		t.Fatalf("%q, %v", rest, err)
	}
}

// FuzzAgainstNetHTTP: of what is let through, net/http reads the same requests:
// it finds none malformed but by rules of its own that do not move a border, and
// after the last whole one nothing is left over that it would take for another.
func FuzzAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		passed, err := judge(string(data), 4096)
		if _, refused := errors.AsType[*strict.Error](err); err != nil && !refused {
			t.Fatal(err)
		}
		if again, err2 := judge(string(data), 1); again != passed || (err == nil) != (err2 == nil) {
			t.Fatalf("in one piece %q, %v; by bytes %q, %v", passed, err, again, err2)
		}
		if strings.HasPrefix(passed, "PRI * HTTP/2.0") {
			return
		}
		// Both must see the same borders: cut the stream where net/http says a
		// request ends, and the rest must be judged as a fresh stream would be.
		rest := []byte(passed)
		for range 8 { // of each the rest is judged again
			if len(rest) == 0 {
				return
			}
			source := bytes.NewReader(rest)
			buffered := bufio.NewReader(source)
			r, err := http.ReadRequest(buffered)
			if err != nil {
				return // cut short, or refused by a rule of net/http's
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			rest = rest[len(rest)-source.Len()-buffered.Buffered():]
			if got, err := judge(string(rest), 4096); err != nil || got != string(rest) {
				t.Fatalf("after a request that net/http read, %q is judged %q, %v", rest, got, err)
			}
		}
	})
}
