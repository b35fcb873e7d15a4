package api

import (
	"net"
	"strconv"
)

// namedPeers is a listener on a Unix socket whose connections come from who the
// kernel says: net/http then has it as the request's RemoteAddr.
type namedPeers struct{ net.Listener }

// Accept names the other end. Where the kernel does not tell, it is "local".
func (l namedPeers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	name := localPeer("local")
	if u, ok := c.(*net.UnixConn); ok {
		if uid, err := peerUID(u); err == nil {
			name += localPeer(":" + strconv.FormatUint(uint64(uid), 10))
		}
	}
	return namedConn{c, name}, nil
}

type namedConn struct {
	net.Conn
	peer localPeer
}

// RemoteAddr is the other end's name: the address of a client's socket is empty.
func (c namedConn) RemoteAddr() net.Addr { return c.peer }

// localPeer is "local:UID".
type localPeer string

func (localPeer) Network() string  { return "unix" }
func (p localPeer) String() string { return string(p) }
