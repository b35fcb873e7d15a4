package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// maxHead bounds the header of an answer to an upgrade.
const maxHead = 64 << 10

// IsUpgrade reports whether r asks to switch protocols in a way that is carried:
// HTTP/1.1, no body, and not to HTTP/2, which nobody needs this for.
func IsUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.ContentLength == 0 && protocol(r.Header) != "" &&
		!strings.EqualFold(protocol(r.Header), "h2c")
}

// protocol is what a message wants to switch to, "" for nothing.
func protocol(h http.Header) string {
	for _, value := range h["Connection"] {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}

// UpgradeRequest is r as bytes for the next hop, after change has been given its
// header (stripped of what belongs to the connection).
func UpgradeRequest(r *http.Request, change func(http.Header)) ([]byte, error) {
	to := protocol(r.Header)
	out := r.Clone(context.Background())
	removeHopByHop(out.Header)
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", to)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or Write would add its own
	}
	change(out.Header)
	out.Body, out.ContentLength = nil, 0
	var b bytes.Buffer
	if err := out.Write(&b); err != nil {
		return nil, fmt.Errorf("write upgrade request: %w", err)
	}
	return b.Bytes(), nil
}

// Answer is what a service answered to an upgrade.
type Answer struct {
	*http.Response
	backend splice.Conn
	buffer  *bufio.Reader
}

// ReadAnswer reads the answer to a request of UpgradeRequest from backend.
func ReadAnswer(backend splice.Conn, r *http.Request) (*Answer, error) {
	limited := &io.LimitedReader{R: backend, N: maxHead}
	buffer := bufio.NewReaderSize(limited, 4<<10)
	for {
		resp, err := http.ReadResponse(buffer, r) //nolint:bodyclose // the Answer owns it
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			limited.N = 1<<63 - 1 // the header is over
			wire.StripHTTP(resp.Header)
			return &Answer{Response: resp, backend: backend, buffer: buffer}, nil
		}
		// 100 and 103 say nothing that the final answer does not.
	}
}

// errSwitched: the service switched to what nobody asked for.
var errSwitched = errors.New("the service switched to another protocol than was asked for")

// Switched reports whether the service switches to what r asked for. The error
// says that it switches to something else.
func (a *Answer) Switched(r *http.Request) (bool, error) {
	if a.StatusCode != http.StatusSwitchingProtocols {
		return false, nil
	}
	if !strings.EqualFold(protocol(a.Header), protocol(r.Header)) {
		return false, errSwitched
	}
	return true, nil
}

// Decline hands on an answer that is not 101. The caller's connection stays HTTP.
func (a *Answer) Decline(w http.ResponseWriter) (received int64, err error) {
	removeHopByHop(a.Header)
	maps.Copy(w.Header(), a.Header)
	w.WriteHeader(a.StatusCode)
	n, err := io.Copy(w, a.Body)
	_ = a.Body.Close()
	return n, err
}

// Switch takes the caller's connection over from the server, hands on the 101,
// and splices the two until both directions are done.
func (a *Answer) Switch(ctx context.Context, w http.ResponseWriter, s *splice.Splicer, counters splice.Counters, cause func() wire.Status) (splice.Result, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return splice.Result{}, fmt.Errorf("take the connection over: %w", err)
	}
	if released, ok := conn.(interface{ Release() }); ok {
		released.Release() // before the caller may send anything but HTTP
	}
	_ = conn.SetDeadline(time.Time{}) // the server's timeouts are not this protocol's
	near := splice.Resume(splice.TCP(conn), rw.Reader)
	if err := a.writeHead(conn); err != nil {
		near.Reset(wire.Reset)
		return splice.Result{}, fmt.Errorf("hand on the 101: %w", err)
	}
	return s.Run(ctx, near, splice.Resume(a.backend, a.buffer), counters, cause), nil
}

func (a *Answer) writeHead(c net.Conn) error {
	to := protocol(a.Header)
	removeHopByHop(a.Header)
	a.Header.Set("Connection", "Upgrade")
	a.Header.Set("Upgrade", to)
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := a.Header.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	_, err := c.Write(b.Bytes())
	return err
}
