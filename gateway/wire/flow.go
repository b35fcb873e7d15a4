package wire

import "io"

// MaxDatagram bounds a datagram of a flow: the largest payload of UDP over IPv6; IPv4's is
// 20 bytes less.
const MaxDatagram = 65535 - 8

// datagramFlow is the kind of QUIC datagrams that belong to flows.
const datagramFlow = 3

// MaxFlowPrefix is the most that stands before a datagram in a QUIC datagram.
const MaxFlowPrefix = 1 + 8

// AppendFlowDatagram appends what stands before a datagram of the flow on stream.
func AppendFlowDatagram(b []byte, stream uint64) []byte {
	return appendVarint(appendVarint(b, datagramFlow), stream)
}

// ParseFlowDatagram reads it; payload is the rest of b. isFlow is false, without error,
// for other kinds.
func ParseFlowDatagram(b []byte) (stream uint64, payload []byte, isFlow bool, err error) {
	kind, b, err := parseVarint(b)
	if err != nil || kind != datagramFlow {
		return 0, nil, false, err
	}
	stream, payload, err = parseVarint(b)
	return stream, payload, true, err
}

// AppendFlowFrame appends a datagram as it travels on the flow's stream. Errors are of type
// [*FieldError].
func AppendFlowFrame(b, datagram []byte) ([]byte, error) {
	if len(datagram) > MaxDatagram {
		return b, &FieldError{Field: "datagram", Length: len(datagram), Rule: "is longer than 65527 bytes"}
	}
	return append(appendVarint(b, uint64(len(datagram))), datagram...), nil
}

// ReadFlowLength reads the length of the next datagram on the flow's stream, which
// follows, not a byte more: a flow that waits holds no room for it. It returns
// [*ParseError] for what breaks the protocol and r's errors otherwise; io.EOF means that
// the flow ended between two datagrams.
func ReadFlowLength(r io.Reader) (int, error) {
	buf := getBuffer(8)
	defer putBuffer(buf)
	n, err := readVarint(r, *buf)
	if err != nil {
		return 0, err
	}
	if n > MaxDatagram {
		return 0, malformed("datagram", "is longer than 65527 bytes")
	}
	return int(n), nil
}
