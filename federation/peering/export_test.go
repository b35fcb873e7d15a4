package peering

import (
	"crypto/tls"
	"io"
)

// RequestFor is a request that a holder of the token makes for the connection of
// cs.
func RequestFor(t *Token, cs tls.ConnectionState, body []byte) ([]byte, error) {
	k, err := t.derive()
	if err != nil {
		return nil, err
	}
	binding, err := exporter(&cs)
	if err != nil {
		return nil, err
	}
	m := &message{kind: kindRequest, token: t.ID, body: body, mac: k.mac(roleRequest, binding, body)}
	return m.append(nil), nil
}

// Refused reads an answer and reports whether it is one without a word.
func Refused(r io.Reader) (bool, error) {
	m, err := readMessage(r)
	if err != nil {
		return false, err
	}
	return m.kind == kindRefused && len(m.body) == 0, nil
}

// ReadMessage is readMessage's error.
func ReadMessage(r io.Reader) error {
	_, err := readMessage(r)
	return err
}
