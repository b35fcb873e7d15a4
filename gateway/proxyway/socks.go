package proxyway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// What SOCKS5 has numbers for (RFC 1928, RFC 1929).
const (
	socks4            = 4
	socks5            = 5
	authVersion       = 1
	methodNone        = 0
	methodPassword    = 2
	methodUnaccepted  = 0xFF
	commandConnect    = 1
	typeIPv4          = 1
	typeName          = 3
	typeIPv6          = 4
	replyOK           = 0
	replyFailure      = 1
	replyNotAllowed   = 2
	replyNetwork      = 3
	replyHost         = 4
	replyRefused      = 5
	replyExpired      = 6
	replyNoCommand    = 7
	replyNoType       = 8
	socks4Rejected    = 91
	socks4ReplyLength = 8
)

// errSOCKS is what is no SOCKS5.
var errSOCKS = errors.New("is no socks5")

// replyError is a request that is refused with a code.
type replyError struct {
	code byte
	what string
}

func (e *replyError) Error() string { return e.what }

// negotiate agrees on how the client says who it is, and returns that: nil of nobody in
// particular.
func negotiate(r *bufio.Reader, w io.Writer, password bool) (*user, error) {
	greeting, err := take(r, 2)
	if err != nil {
		return nil, err
	}
	methods, err := take(r, int(greeting[1]))
	if err != nil {
		return nil, err
	}
	wanted := byte(methodNone)
	if password {
		wanted = methodPassword
	}
	offered := false
	for _, m := range methods {
		offered = offered || m == wanted
	}
	if !offered {
		_, err := w.Write([]byte{socks5, methodUnaccepted})
		return nil, errors.Join(fmt.Errorf("methods %v: %w", methods, errUser), err)
	}
	if _, err := w.Write([]byte{socks5, wanted}); err != nil || !password {
		return nil, err
	}
	if version, err := take(r, 1); err != nil || version[0] != authVersion {
		return nil, errors.Join(fmt.Errorf("authentication: %w", errSOCKS), err)
	}
	var u user
	for _, field := range []*string{&u.name, &u.password} {
		if *field, err = takeText(r); err != nil {
			return nil, err
		}
	}
	return &u, nil
}

// authenticated answers RFC 1929.
func authenticated(w io.Writer, ok bool) error {
	status := byte(1)
	if ok {
		status = 0
	}
	_, err := w.Write([]byte{authVersion, status})
	return err
}

// readRequest reads what the client wants to be connected to: a name or an address, and a
// port. Its errors that the client is to hear are *replyError.
func readRequest(r *bufio.Reader) (name string, address netip.Addr, port uint16, err error) {
	b, err := take(r, 4)
	if err != nil {
		return "", address, 0, err
	}
	version, command, reserved, kind := b[0], b[1], b[2], b[3]
	if version != socks5 || reserved != 0 {
		return "", address, 0, fmt.Errorf("a request of version %d: %w", version, errSOCKS)
	}
	switch kind {
	case typeName:
		name, err = takeText(r)
	case typeIPv4, typeIPv6:
		n := net.IPv4len
		if kind == typeIPv6 {
			n = net.IPv6len
		}
		if b, err = take(r, n); err == nil {
			address, _ = netip.AddrFromSlice(b)
			address = address.Unmap()
		}
	default:
		return "", address, 0, &replyError{replyNoType, fmt.Sprintf("address type %d", kind)}
	}
	if err != nil {
		return "", address, 0, err
	}
	if b, err = take(r, 2); err != nil {
		return "", address, 0, err
	}
	if command != commandConnect {
		return "", address, 0, &replyError{replyNoCommand, fmt.Sprintf("command %d: only CONNECT is served, no BIND and no UDP ASSOCIATE", command)}
	}
	return name, address, uint16(b[0])<<8 | uint16(b[1]), nil
}

// reply answers a request. The address that it is said to be connected from is nobody's to
// know.
func reply(w io.Writer, code byte) error {
	_, err := w.Write([]byte{socks5, code, 0, typeIPv4, 0, 0, 0, 0, 0, 0})
	return err
}

// refuseSOCKS4 answers a client of version 4, which knows no names.
func refuseSOCKS4(w io.Writer) error {
	answer := [socks4ReplyLength]byte{1: socks4Rejected}
	_, err := w.Write(answer[:])
	return err
}

// codeOf is the reply to a call that found no way.
func codeOf(err error) byte {
	if e, ok := errors.AsType[*replyError](err); ok {
		return e.code
	}
	e, ok := errors.AsType[*attempt.Error](err)
	switch {
	case !ok || e.Limit != attempt.NoLimit:
		return replyFailure
	case e.Reason == route.ReasonUnknownService:
		return replyHost
	case e.Reason == route.UnknownPort.String() || e.Status == wire.Unreachable:
		return replyRefused
	case e.Denied:
		return replyNotAllowed
	case e.Status == wire.DeadlineExceeded:
		return replyExpired
	case e.Attempts == 0:
		return replyNetwork // nothing that could take it is known or alive
	}
	return replyFailure
}

// take reads n bytes, which the reader keeps until the next call.
func take(r *bufio.Reader, n int) ([]byte, error) {
	b, err := r.Peek(n)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(n)
	return b, err
}

// takeText reads a length and as many bytes, at least one.
func takeText(r *bufio.Reader) (string, error) {
	n, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", fmt.Errorf("an empty text: %w", errSOCKS)
	}
	b, err := take(r, int(n))
	return string(b), err
}
