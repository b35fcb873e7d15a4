package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// The types of policy.HealthCheck.
const (
	typeTCP  = "tcp"
	typeHTTP = "http"
	typeGRPC = "grpc"
	typeNone = "none"
)

// maxAnswer bounds what is read of an answer's body.
const maxAnswer = 4 << 10

// probes makes single checks, each on a connection of its own: what is checked is
// that the endpoint takes a new one.
type probes struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	http1 *http.Transport
	http2 *http.Transport
}

func newProbes(dial func(ctx context.Context, network, address string) (net.Conn, error),
	secure func(ctx context.Context, c net.Conn, server string) (net.Conn, error),
) *probes {
	within := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		server, ok := ctx.Value(serverKey{}).(string)
		switch {
		case err != nil || !ok:
			return c, err
		case secure == nil:
			_ = c.Close() // nothing was sent
			return nil, errors.New("the endpoint speaks mtls")
		}
		return secure(ctx, c, server)
	}
	clearText := new(http.Protocols)
	clearText.SetUnencryptedHTTP2(true)
	return &probes{
		dial:  dial,
		http1: &http.Transport{DialContext: within, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer},
		http2: &http.Transport{DialContext: within, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer, Protocols: clearText},
	}
}

func (p *probes) close() {
	p.http1.CloseIdleConnections()
	p.http2.CloseIdleConnections()
}

type serverKey struct{}

// probe returns nil if the endpoint passes.
func (p *probes) probe(ctx context.Context, t Target) error {
	if t.Server != "" {
		ctx = context.WithValue(ctx, serverKey{}, t.Server)
	}
	switch t.Check.Type {
	case typeTCP:
		c, err := p.dial(ctx, "tcp", t.Address.String())
		if err != nil {
			return err
		}
		return c.Close()
	case typeHTTP:
		return p.get(ctx, t)
	case typeGRPC:
		return p.grpc(ctx, t)
	default:
		return fmt.Errorf("check type %q is not known", t.Check.Type)
	}
}

func (p *probes) get(ctx context.Context, t Target) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Address.String()+t.Check.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "isthmus-health")
	resp, err := p.http1.RoundTrip(req)
	if err != nil {
		return err
	}
	// The body is looked at by nobody; reading its start lets a handler finish.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("http status %d", resp.StatusCode)
	}
	return nil
}

// failure is the text of a failed check, "" for a passed one. It is shown to
// operators, so the frequent ones have one word each.
func failure(err error) string {
	switch {
	case err == nil:
		return ""
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	default:
		return err.Error()
	}
}

func isTimeout(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
