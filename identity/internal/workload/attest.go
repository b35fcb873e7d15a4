package workload

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// maxConnsPerUID bounds the connections of one user, so that a user who opens many
// exhausts nobody's but his own.
const maxConnsPerUID = 512

// Caller is who the kernel says is at the other end of a connection.
type Caller struct {
	UID uint32
	PID int32
}

// AuthType implements credentials.AuthInfo.
func (Caller) AuthType() string { return "unix-peer" }

// listener accepts connections and knows who made them.
type listener struct {
	*net.UnixListener
	refused func(reason string, who Caller, err error)

	mu    sync.Mutex
	conns map[uint32]int
}

// attestedConn is a connection with its caller.
type attestedConn struct {
	*net.UnixConn
	caller  Caller
	release func()
}

// Close implements net.Conn.
func (c *attestedConn) Close() error {
	c.release()
	return c.UnixConn.Close()
}

// Accept implements net.Listener. Connections that cannot be attested, or are too
// many, are closed here, before a byte of theirs is read.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(conn)
		if err != nil {
			l.refused(RefusedUnattested, who, err)
			_ = conn.Close()
			continue
		}
		if !l.admit(who.UID) {
			l.refused(RefusedConnections, who, nil)
			_ = conn.Close()
			continue
		}
		return &attestedConn{UnixConn: conn, caller: who, release: sync.OnceFunc(func() { l.leave(who.UID) })}, nil
	}
}

func (l *listener) admit(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[uid] >= maxConnsPerUID {
		return false
	}
	l.conns[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[uid]--; l.conns[uid] == 0 {
		delete(l.conns, uid)
	}
}

// control runs f on the connection's file descriptor.
func control(conn *net.UnixConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// peerCredentials hands the caller from the listener to the gRPC handlers. The
// socket itself is plaintext, as the Workload API specification wants it.
type peerCredentials struct{}

var errNotAttested = errors.New("connection carries no peer credentials")

// ServerHandshake implements credentials.TransportCredentials.
func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*attestedConn)
	if !ok {
		return nil, nil, errNotAttested
	}
	return conn, c.caller, nil
}

// ClientHandshake implements credentials.TransportCredentials; this side is a server.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server only")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }

// callerOf returns who makes a request.
func callerOf(ctx context.Context) (Caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}, false
	}
	who, ok := p.AuthInfo.(Caller)
	return who, ok
}
