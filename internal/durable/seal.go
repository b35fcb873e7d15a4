package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrCorrupt is the error for what Open does not recognise.
var ErrCorrupt = errors.New("file is corrupt")

// Seal makes a file of body: twice the same, each time a line that names its kind
// and its digest, and body. A byte that flips is in one of the two.
func Seal(kind string, body []byte) []byte {
	half := append(fmt.Appendf(nil, "%s sha256:%s\n", kind, digest(body)), body...)
	return append(half, half...)
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Open returns the body of what Seal made. damage says that one of the two is not
// as it was written: body is the other one. What has only one, of an older version,
// is taken too. The error wraps ErrCorrupt.
func Open(kind string, data []byte) (body []byte, damage, err error) {
	if body, err = open(kind, data); err == nil {
		return body, nil, nil // of an older version
	}
	first, second := data[:len(data)/2], data[len(data)/2:]
	body, err = open(kind, first)
	if err == nil {
		if !bytes.Equal(first, second) {
			damage = fmt.Errorf("the second of two copies: %w", differs(kind, second))
		}
		return body, damage, nil
	}
	other, otherErr := open(kind, second)
	if otherErr != nil {
		return nil, nil, err
	}
	return other, fmt.Errorf("the first of two copies: %w", err), nil
}

func differs(kind string, half []byte) error {
	if _, err := open(kind, half); err != nil {
		return err
	}
	return fmt.Errorf("%w: it is another one", ErrCorrupt)
}

func open(kind string, data []byte) ([]byte, error) {
	line, body, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, fmt.Errorf("%w: no header line", ErrCorrupt)
	}
	if want := fmt.Appendf(nil, "%s sha256:%s", kind, digest(body)); !bytes.Equal(line, want) {
		return nil, fmt.Errorf("%w: header does not fit kind %q and content", ErrCorrupt, kind)
	}
	return body, nil
}
