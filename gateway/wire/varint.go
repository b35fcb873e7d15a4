package wire

import (
	"io"
	"math/bits"
)

// maxVarint is the largest number that a variable-length integer holds.
const maxVarint = 1<<62 - 1

// appendVarint appends v in the shortest form; v must be at most maxVarint.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return append(b, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
	default:
		return append(b, byte(v>>56)|0xc0, byte(v>>48), byte(v>>40), byte(v>>32),
			byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
}

// varintLen is the length of v's shortest form.
func varintLen(v uint64) int {
	switch n := bits.Len64(v); {
	case n <= 6:
		return 1
	case n <= 14:
		return 2
	case n <= 30:
		return 4
	default:
		return 8
	}
}

// parseVarint reads a number from the front of b and returns what follows it. It
// works on strings too, so that a message is copied once and its text fields are
// parts of that copy.
func parseVarint[T []byte | string](b T) (v uint64, rest T, err error) {
	if len(b) == 0 {
		return 0, b, errTruncated
	}
	n := 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, b, errTruncated
	}
	v = uint64(b[0] & 0x3f)
	for i := 1; i < n; i++ {
		v = v<<8 | uint64(b[i])
	}
	if varintLen(v) != n {
		return 0, b, malformed("number", "is not in its shortest form")
	}
	return v, b[n:], nil
}

// readVarint reads a number from r, not a byte more. scratch must hold 8 bytes
// (a buffer of the caller's, since a local one would escape into the Reader).
func readVarint(r io.Reader, scratch []byte) (uint64, error) {
	if _, err := io.ReadFull(r, scratch[:1]); err != nil {
		return 0, err
	}
	n := 1 << (scratch[0] >> 6)
	if _, err := io.ReadFull(r, scratch[1:n]); err != nil {
		return 0, unexpected(err)
	}
	v, _, err := parseVarint(scratch[:n])
	return v, err
}

// unexpected turns an EOF inside a message into io.ErrUnexpectedEOF, so that
// io.EOF always means "ended between messages".
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // io.Readers return it unwrapped, as io.ReadFull relies on
		return io.ErrUnexpectedEOF
	}
	return err
}
