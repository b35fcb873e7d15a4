package lane

import (
	"encoding/binary"

	"github.com/quic-go/quic-go"
)

// The types of records.
const (
	recordData     = 1
	recordEnd      = 2
	recordReset    = 3
	recordStop     = 4
	recordClose    = 5
	recordDatagram = 6
)

const (
	headerSize = 4
	// maxData bounds the payload of a record: with its header it fills four TLS
	// records to the last byte.
	maxData = 64<<10 - headerSize
	// maxSmall bounds the other records.
	maxSmall = 64
)

// limit is the longest body of a type of record; -1 for a type that is not known.
func limit(kind byte) int {
	switch kind {
	case recordData:
		return maxData
	case recordEnd:
		return 0
	case recordReset, recordClose:
		return 8
	case recordStop:
		return 16
	case recordDatagram:
		return maxSmall
	}
	return -1
}

func appendHeader(b []byte, kind byte, n int) []byte {
	return append(b, kind, byte(n>>16), byte(n>>8), byte(n))
}

// numbers is a record of numbers.
func numbers(kind byte, all ...uint64) []byte {
	b := appendHeader(nil, kind, 8*len(all))
	for _, n := range all {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// number reads the i-th number of a record's body.
func number(body []byte, i int) uint64 { return binary.BigEndian.Uint64(body[8*i:]) }

func streamError(code uint64, remote bool) *quic.StreamError {
	return &quic.StreamError{ErrorCode: quic.StreamErrorCode(code), Remote: remote}
}
