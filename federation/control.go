package federation

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxConnectHeader bounds a gateway's answer to CONNECT.
const maxConnectHeader = 16 << 10

// control is the way through one own gateway: a connection to its control
// listener that it was asked to carry on. See gateway/control for its protocol.
type control struct {
	identity *identity.Source
	cluster  spiffeid.ID // own
	// timeout bounds all of it, with what then does.
	timeout time.Duration
	// target is asked for, header lines (each with its end) say more of it.
	target, header string
	// then goes on with the connection, which the gateway carries now; nil: nothing is
	// left to do.
	then func(ctx context.Context, conn net.Conn) (net.Conn, error)
}

// through dials the gateway that a report is of. When the context or the timeout
// ends first, whatever step it is in ends, too.
func (c *control) through(ctx context.Context, r *route.Report) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// The ID is made of the name, and not taken from the report: the name was
	// checked against the certificate when the report came.
	id, err := mesh.GatewayID(c.cluster, r.Gateway.Name)
	if err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Control)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	outer := tls.Client(raw, c.identity.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(id)))
	if err := outer.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if err := connect(outer, c.target, c.header); err != nil {
		return nil, err
	}
	conn := net.Conn(outer)
	if c.then != nil {
		if conn, err = c.then(ctx, outer); err != nil {
			return nil, err
		}
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return conn, nil
}

// throughAny tries the gateways in turn, and says which carried it.
func throughAny(ctx context.Context, candidates []*route.Report, through func(context.Context, *route.Report) (net.Conn, error)) (net.Conn, *route.Report, error) {
	if len(candidates) == 0 {
		return nil, nil, errNoGateway
	}
	var errs []error
	for _, r := range candidates {
		conn, err := through(ctx, r)
		if err == nil {
			return conn, r, nil
		}
		errs = append(errs, fmt.Errorf("gateway %s: %w", r.Gateway.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, errors.Join(errs...)
}

// errNoGateway means that no own gateway is heard that could carry a call.
var errNoGateway = errors.New("no living gateway with a control listener")

// refusedError is a gateway's refusal to carry a connection.
type refusedError struct {
	status int
	reason string // of a join: why no gateway of the inviter was reached
}

func (e *refusedError) Error() string {
	if e.reason != "" {
		return e.reason
	}
	return fmt.Sprintf("connect: status %d %s", e.status, http.StatusText(e.status))
}

// connect asks a gateway for a target; conn leads there afterwards.
func connect(conn net.Conn, target, header string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, header); err != nil {
		return err
	}
	r := bufio.NewReaderSize(&limitedReader{conn: conn, left: maxConnectHeader}, 4096)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_ = resp.Body.Close() // an answer to CONNECT has no body of its own
	if resp.StatusCode != http.StatusOK {
		return &refusedError{status: resp.StatusCode, reason: resp.Header.Get("Isthmus-Reason")}
	}
	if r.Buffered() > 0 {
		// Clients speak first: nothing can follow the header yet.
		return errors.New("connect: bytes before the first of ours")
	}
	return nil
}

// limitedReader bounds what is read of a connection.
type limitedReader struct {
	conn net.Conn
	left int
}

var errHeaderTooLong = fmt.Errorf("header is longer than %d bytes", maxConnectHeader)

// Read reads at most what is left.
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := l.conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
