package preface

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// timeout is how long a header may take to arrive: it is the first thing that a
	// balancer sends.
	timeout = 5 * time.Second
	// size is of the buffer: the longest header that is taken, 4 KiB of addresses and
	// TLVs, and what came along.
	size = 8 << 10
)

// The ways a header can be wrong.
var (
	// ErrHeader: there is none, or it is broken.
	ErrHeader = errors.New("no header of the PROXY protocol")
	// ErrVersion: it is of version 1, which is not taken here.
	ErrVersion = errors.New("version 1 of the PROXY protocol is not taken here")
	// ErrSource: who it names may not connect.
	ErrSource = errors.New("who the balancer names is not of the sources")
)

// Options configure a Reader.
type Options struct {
	// V1 takes headers of version 1 too.
	V1 bool
	// Sources are the ranges that may connect through a balancer; none means all.
	Sources []netip.Prefix
}

// Reader reads headers.
type Reader struct{ o Options }

// New returns a Reader.
func New(o Options) *Reader { return &Reader{o} }

// Read reads the header of c. from is who connects; it is not valid of a connection of the
// balancer's own, such as a health check. rest is what came behind the header. An error
// says that the connection is not to be served.
func (r *Reader) Read(c net.Conn) (from netip.Addr, rest []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return from, nil, err
	}
	b := bufio.NewReaderSize(c, size)
	h, err := proxyproto.Read(b)
	if err != nil {
		return from, nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if h.Version == 1 && !r.o.V1 {
		return from, nil, ErrVersion
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return from, nil, err
	}
	if n := b.Buffered(); n > 0 {
		peeked, _ := b.Peek(n) // it is there
		rest = slices.Clone(peeked)
	}
	if h.Command.IsLocal() {
		return from, rest, nil
	}
	// Addresses of datagrams or of Unix sockets are none of who connects here.
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return from, nil, fmt.Errorf("%w: it is of %v", ErrHeader, h.TransportProtocol)
	}
	from = tcp.AddrPort().Addr().Unmap().WithZone("")
	if len(r.o.Sources) > 0 && !slices.ContainsFunc(r.o.Sources, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return from, nil, fmt.Errorf("%s: %w", from, ErrSource)
	}
	return from, rest, nil
}
