package stand

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// EchoServer is a TCP server that sends back what it receives, until the test ends.
func EchoServer(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// EchoWeb is a web server that answers "web" at once, and under /echo sends back what it
// receives as it comes, until the test ends.
func EchoWeb(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "web") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		buf := make([]byte, 1<<10)
		for err := c.EnableFullDuplex(); err == nil; {
			_ = c.Flush()
			var n int
			n, err = r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// Send asks web.default.mesh by the HTTP listener of a gateway, with a POST if there is a
// body. An answer other than 200 is an error with its status and reason.
func Send(ctx context.Context, way netip.AddrPort, path string, body io.Reader) (*http.Response, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+way.String()+path, body)
	if err != nil {
		return nil, err
	}
	req.Host = "web.default.mesh"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
	}
	return resp, nil
}
