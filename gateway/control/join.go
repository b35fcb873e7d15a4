package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// joinDialTimeout bounds the way to a gateway of the inviter, all its addresses
	// together; joinTimeout the whole of it.
	joinDialTimeout = 7 * time.Second
	joinTimeout     = 15 * time.Second
	// maxJoinAddresses is what a token may hold.
	maxJoinAddresses = 16
	maxReason        = 500
)

// Joins dials clusters that have invited the own one; *tunnel.Node is one.
type Joins interface {
	DialJoin(ctx context.Context, addresses []string, cluster spiffeid.ID, anchors []identity.Anchor) (*tunnel.JoinStream, error)
}

// joinTarget reads "join.CLUSTER:443".
func joinTarget(host string) (catalog.ClusterName, bool) {
	name, ok := strings.CutSuffix(host, ":443")
	if !ok {
		return "", false
	}
	if name, ok = strings.CutPrefix(name, "join."); !ok {
		return "", false
	}
	cluster, err := catalog.ParseClusterName(name)
	return cluster, err == nil
}

// joinRequest is what the header of a CONNECT to join.CLUSTER says, from the token
// that the federation was given:
//
//	Isthmus-Join-Id        the SPIFFE ID of the inviting federation
//	Isthmus-Join-Anchors   its authorities, hexadecimal, with commas between
//	Isthmus-Join-Gateways  host:port of its gateways, with commas between
type joinRequest struct {
	id        spiffeid.ID
	anchors   []identity.Anchor
	addresses []string
}

func parseJoin(h http.Header) (*joinRequest, error) {
	var r joinRequest
	var err error
	if r.id, err = spiffeid.FromString(h.Get("Isthmus-Join-Id")); err != nil {
		return nil, fmt.Errorf("isthmus-join-id: %w", err)
	}
	for text := range strings.SplitSeq(h.Get("Isthmus-Join-Anchors"), ",") {
		a, err := identity.ParseAnchor(text)
		if err != nil {
			return nil, fmt.Errorf("isthmus-join-anchors: %w", err)
		}
		if r.anchors = append(r.anchors, a); len(r.anchors) > identity.MaxAnchors {
			return nil, fmt.Errorf("isthmus-join-anchors: more than %d", identity.MaxAnchors)
		}
	}
	for address := range strings.SplitSeq(h.Get("Isthmus-Join-Gateways"), ",") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("isthmus-join-gateways: value %.100q: must be host:port", address)
		}
		if r.addresses = append(r.addresses, address); len(r.addresses) > maxJoinAddresses {
			return nil, fmt.Errorf("isthmus-join-gateways: more than %d", maxJoinAddresses)
		}
	}
	return &r, nil
}

// serveJoin leads the own federation to one that has invited it. The two know each
// other by the token, end to end.
func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request, cluster catalog.ClusterName) {
	e := s.o.Account.Begin(account.WayJoin)
	defer e.End()
	e.Caller, e.Service, e.Cluster = s.o.Federation().String(), catalog.FederationService(cluster), cluster
	refuse := func(status int, reason string, err error) {
		e.Reason, e.Status, e.Err = reason, status, err
		text := strings.Join(strings.Fields(err.Error()), " ") // a header's value is one line
		w.Header().Set("Isthmus-Reason", text[:min(len(text), maxReason)])
		refuseWith(w, status, reason, err)
	}
	request, err := parseJoin(r.Header)
	if err != nil {
		refuse(http.StatusBadRequest, wire.Protocol.String(), err)
		return
	}
	dial, cancel := context.WithTimeout(r.Context(), joinDialTimeout)
	stream, err := s.o.Joins.DialJoin(dial, request.addresses, request.id, request.anchors)
	cancel()
	if err != nil {
		refuse(http.StatusServiceUnavailable, wire.Unreachable.String(), err)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		stream.Reset(wire.Internal)
		refuse(http.StatusInternalServerError, wire.Internal.String(), err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		stream.Reset(wire.Canceled)
		_ = conn.Close() // it is gone
		e.Reason, e.Err = wire.Canceled.String(), err
		return
	}
	e.Answered()
	e.Status = http.StatusOK
	ctx, end := context.WithTimeout(s.serving, joinTimeout)
	defer end()
	sent, received := e.Counters()
	near := splice.Resume(splice.TCP(conn), rw.Reader)
	result := s.o.Splicer.Run(ctx, near, stream, splice.Counters{AB: sent, BA: received}, func() wire.Status { return wire.DeadlineExceeded })
	if result.Status != wire.OK {
		e.Reason, e.Err = result.Status.String(), result.Err
	}
}
