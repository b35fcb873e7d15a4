package sniway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// MaxHello bounds the bytes that are read for a ClientHello. Those of browsers with a
// post-quantum key share have 2 KiB; what is kept is sent again to the next choice.
const MaxHello = 32 << 10

// extensionECH is encrypted_client_hello. Callers that have no key for it send one of
// random bytes, too (RFC 9849, section 6.2), so its presence says little.
const extensionECH = 0xfe0d

// The ways in which what arrives is no ClientHello to go by.
var (
	ErrNotTLS  = errors.New("is no tls")
	ErrHello   = errors.New("is a client hello that cannot be read")
	ErrTooLong = fmt.Errorf("is a client hello of more than %d bytes", MaxHello)
)

// hello is a ClientHello.
type hello struct {
	// name is the server name, "" where there is none.
	name string
	// ech says that the name may be for the public only.
	ech bool
	// bytes are all that were read.
	bytes []byte
}

// readHello reads until the ClientHello is whole, and what came with it. Errors that
// are none of this package's are the connection's.
func readHello(c net.Conn, deadline time.Time) (h hello, err error) {
	_ = c.SetReadDeadline(deadline) // of one that is gone the next read tells
	tape := &tape{from: c}
	seen := false
	// The standard library's parser, of which only the first step is taken: it asks for
	// the configuration once it has read the ClientHello, and gets none.
	err = tls.Server(tape, &tls.Config{
		MinVersion: tls.VersionTLS12, // never negotiated
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			seen, h.name = true, info.ServerName
			h.ech = slices.Contains(info.Extensions, extensionECH)
			return nil, errSeen
		},
	}).Handshake()
	h.bytes = tape.read.Bytes()
	switch {
	case seen:
		_ = c.SetReadDeadline(time.Time{}) // as above
		return h, nil
	case tape.long:
		return h, ErrTooLong
	case tape.err != nil:
		return h, tape.err
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return h, ErrNotTLS
	}
	return h, fmt.Errorf("%w: %w", ErrHello, err)
}

var errSeen = errors.New("seen")

// tape is a connection whose reads are kept and whose writes go nowhere: the alert
// that ends the parser's handshake is not for the caller.
type tape struct {
	net.Conn // nil: what is not below must not be used

	from io.Reader
	read bytes.Buffer
	long bool
	err  error
}

// Read implements net.Conn.
func (t *tape) Read(p []byte) (int, error) {
	room := MaxHello - t.read.Len()
	if room == 0 {
		t.long = true
		return 0, ErrTooLong
	}
	n, err := t.from.Read(p[:min(len(p), room)])
	t.read.Write(p[:n])
	if err != nil {
		t.err = err
	}
	return n, err
}

// Write implements net.Conn.
func (t *tape) Write(p []byte) (int, error) { return len(p), nil }

// Close implements net.Conn.
func (t *tape) Close() error { return nil }

// SetWriteDeadline implements net.Conn; the parser sets one before its alert.
func (t *tape) SetWriteDeadline(time.Time) error { return nil }
