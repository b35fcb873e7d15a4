package generation

import (
	"crypto/rand"

	"github.com/quic-go/quic-go"
)

const (
	// Slots is how many processes may share a port: upgrades while streams of
	// before go on. It is four bits of a connection ID.
	Slots = 16
	// idLength is long enough that, beside slot and mark, a stateless reset never
	// hits another connection.
	idLength = 8
	// markHigh is the upper half of the first byte of our connection IDs, the slot
	// the lower one, and markByte the second byte.
	markHigh = 0x90
	markByte = 0x5c
)

// Slot is the number of a process among those that share a port, below [Slots].
type Slot uint8

// IDs makes the connection IDs of one process.
type IDs struct{ Slot Slot }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (g IDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [idLength]byte
	if _, err := rand.Read(id[:]); err != nil {
		return quic.ConnectionID{}, err
	}
	id[0], id[1] = markHigh|byte(g.Slot%Slots), markByte
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (IDs) ConnectionIDLen() int { return idLength }

// Live is a set of slots.
type Live uint16

// With is the set and one more.
func (l Live) With(s Slot) Live { return l | 1<<(s%Slots) }

// Without is the set without one.
func (l Live) Without(s Slot) Live { return l &^ (1 << (s % Slots)) }

// Has reports whether a slot is in the set.
func (l Live) Has(s Slot) bool { return l>>(s%Slots)&1 == 1 }

// Next is the slot of the process after the one of last, where bound slots have a
// socket: one that was never used, as long as there is one, else one whose process
// has ended. ok is false while every slot has a live process.
func (l Live) Next(bound int) (next Slot, ok bool) {
	if bound < Slots {
		return Slot(bound), true
	}
	for s := range Slot(Slots) {
		if !l.Has(s) {
			return s, true
		}
	}
	return 0, false
}
