package gcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/googleapis/gax-go/v2/callctx"
)

// callHeader names the call that a request belongs to, between the client library
// and the edge. It does not leave the process.
const callHeader = "X-Isthmus-Call"

// edge stands between the client library and the network. It gives each request
// what the library's iterators leave out: they make their requests without the
// context of the call, so that neither its end nor its deadline would reach them,
// and where a list is asked for with a body they send the whole request as one, so
// that what it says is not where the server looks for it.
type edge struct {
	keys    *keyring
	next    http.RoundTripper
	timeout time.Duration
	count   func()

	calls sync.Map // of *call, by the header's value
	last  atomic.Uint64
}

// call is one call of the client library, with its retries.
type call struct{ ctx context.Context }

// bodyKey is the key of a context's body.
type bodyKey struct{}

// withBody makes the requests of a call carry that body.
func withBody(ctx context.Context, body string) context.Context {
	return context.WithValue(ctx, bodyKey{}, body)
}

// enter gives the context of a call the name by which its requests are known.
func (e *edge) enter(ctx context.Context) (named context.Context, end func()) {
	name := strconv.FormatUint(e.last.Add(1), 36)
	named = callctx.SetHeaders(ctx, callHeader, name)
	e.calls.Store(name, &call{named})
	return named, func() { e.calls.Delete(name) }
}

// RoundTrip adds the token, and bounds the time and the size of the answer.
func (e *edge) RoundTrip(req *http.Request) (*http.Response, error) {
	e.count()
	found, _ := e.calls.Load(req.Header.Get(callHeader))
	c, ok := found.(*call)
	if !ok {
		return nil, errors.New("a request that belongs to no call")
	}
	ctx, cancel := context.WithTimeout(c.ctx, e.timeout)
	creds, token, quota, err := e.keys.token(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	req = req.Clone(ctx)
	req.Header.Del(callHeader)
	req.Header.Set("Authorization", "Bearer "+token.Value)
	if quota != "" {
		req.Header.Set("X-Goog-User-Project", quota)
	}
	if body, ok := ctx.Value(bodyKey{}).(string); ok {
		req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	}
	resp, err := e.next.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		e.keys.refused(creds)
	}
	resp.Body = &bounded{body: resp.Body, left: maxAnswer, cancel: cancel}
	return resp, nil
}

// maxAnswer bounds one page: 500 instances with all that they can carry.
const maxAnswer = 64 << 20

// bounded fails, rather than ends, where an answer is too long: half an answer
// must not be taken for one.
type bounded struct {
	body   io.ReadCloser
	left   int64
	cancel context.CancelFunc
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: it is longer than %d bytes", errAnswer, int64(maxAnswer))
	}
	return n, err
}

func (b *bounded) Close() error {
	defer b.cancel()
	return b.body.Close()
}
