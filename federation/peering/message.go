package peering

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Description is how a cluster describes itself to the other.
type Description struct {
	Cluster catalog.ClusterName `json:"cluster"`
	ID      string              `json:"id"`
	Cloud   string              `json:"cloud,omitempty"`
	Region  string              `json:"region,omitempty"`
	// Gateways are host:port, none where the cluster cannot be dialed.
	Gateways []string `json:"gateways,omitempty"`
	// Bundle is the SPIFFE bundle document of the cluster's trust domain.
	Bundle json.RawMessage `json:"bundle"`
}

// answer is the body of the inviter's answer.
type answer struct {
	// Reason is set in a refusal, with Message for people.
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Inviter is set otherwise.
	Inviter *Description `json:"inviter,omitempty"`
}

// A message on the wire:
//
//	length   4 bytes, big endian: of everything that follows
//	version  1 byte: 1
//	kind     1 byte
//	token    16 bytes: the invitation's ID
//	MAC      32 bytes
//	body     JSON
//
// The MAC is checked before the body is looked at.
const (
	messageVersion = 1
	headerBytes    = 1 + 1 + idBytes + sha256.Size
	// maxMessage bounds a message: a bundle document and little else.
	maxMessage = policy.MaxInlineBundle + 16<<10
)

// The kinds of messages.
const (
	kindRequest = 1
	kindAnswer  = 2
	// kindRefused is an answer without MAC and body: who has not proven to hold the
	// token is told nothing.
	kindRefused = 3
)

type message struct {
	kind  byte
	token TokenID
	mac   [sha256.Size]byte
	body  []byte
}

// size is what precedes the body, and the body.
func (m *message) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(headerBytes+len(m.body)))
	b = append(b, messageVersion, m.kind)
	b = append(b, m.token[:]...)
	b = append(b, m.mac[:]...)
	return append(b, m.body...)
}

func (m *message) write(w io.Writer) error {
	if n := headerBytes + len(m.body); n > maxMessage {
		return fmt.Errorf("message of %d bytes, at most %d", n, maxMessage)
	}
	_, err := w.Write(m.append(nil))
	return err
}

// readMessage reads one message; what is malformed is a *Refusal.
func readMessage(r io.Reader) (*message, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < headerBytes || n > maxMessage {
		return nil, refuse(ReasonMalformed, "message of %d bytes, must be %d to %d", n, headerBytes, maxMessage)
	}
	// Read as it comes: nobody makes us allocate what he does not send.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	raw := b.Bytes()
	if raw[0] != messageVersion {
		return nil, refuse(ReasonVersion, "message of version %d, this one understands %d", raw[0], messageVersion)
	}
	m := &message{kind: raw[1], body: raw[headerBytes:]}
	copy(m.token[:], raw[2:])
	copy(m.mac[:], raw[2+idBytes:])
	return m, nil
}

// decodeBody reads the JSON of a message that is authenticated. Fields that are
// not known are left out: a later version may say more.
func decodeBody[T any](body []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, refuse(ReasonMalformed, "message: %v", err)
	}
	return v, nil
}
