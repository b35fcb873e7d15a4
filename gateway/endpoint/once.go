package endpoint

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// errSent is the error of a request whose connection broke before an answer.
var errSent = errors.New("the connection to the endpoint broke before an answer")

// once keeps net/http from sending a request again that an endpoint may have got. It
// would, where the method or a header field says that the request may be repeated, on
// one idle connection after the other: beside the gateway's retries, and beyond their
// budget. A request of which nothing was written may go on another connection: one
// that the endpoint closes while it is idle is no failure.
//
// net/http asks GetBody before it sends a second time, and reads a body after the
// header was written; so a request without a body gets an empty one that is read, and
// sent as none. That is right for the methods which hardly ever have one; others
// without one would lose their Content-Length of 0 and stay as they are.
func once(out *http.Request) {
	sent := new(atomic.Bool)
	again := out.GetBody
	switch {
	case out.Body != nil && out.Body != http.NoBody:
		if again == nil {
			return // it is not sent again
		}
		out.Body = &onceBody{out.Body, sent}
	case out.Method == http.MethodGet || out.Method == http.MethodHead || out.Method == http.MethodOptions:
		empty := io.NopCloser(strings.NewReader(""))
		out.Body, again = &onceBody{empty, sent}, func() (io.ReadCloser, error) { return empty, nil } //nolint:unparam // GetBody's
		out.ContentLength, out.TransferEncoding = 0, []string{"identity"}                             // not chunked: there is nothing
	default:
		return
	}
	out.GetBody = func() (io.ReadCloser, error) {
		if sent.Load() {
			return nil, errSent
		}
		body, err := again()
		if err != nil {
			return nil, err
		}
		return &onceBody{body, sent}, nil
	}
}

// onceBody notes that it was read: the header has been sent.
type onceBody struct {
	io.ReadCloser
	sent *atomic.Bool
}

// Read implements io.Reader.
func (b *onceBody) Read(p []byte) (int, error) {
	b.sent.Store(true)
	return b.ReadCloser.Read(p)
}
