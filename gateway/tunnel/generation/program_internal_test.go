package generation

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/bpf"
)

func id(t testing.TB, s Slot) []byte {
	t.Helper()
	c, err := IDs{Slot: s}.GenerateConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	return c.Bytes()
}

func short(id []byte) []byte { return append(append([]byte{0x41}, id...), make([]byte, 30)...) }

func long(kind byte, id []byte) []byte {
	p := binary.BigEndian.AppendUint32([]byte{0xc0 | kind<<4}, uint32(quic.Version1))
	p = append(append(p, byte(len(id))), id...)
	return append(p, make([]byte, 1200)...)
}

// expected says the same as the program, in another way.
func expected(p []byte, live Live, newest Slot) Slot {
	id := p[1:9]
	if p[0]&0x80 != 0 {
		if p[5] != 8 {
			return newest
		}
		id = p[6:14]
	}
	if id[0]>>4 != markHigh>>4 || id[1] != markByte || !live.Has(Slot(id[0]&15)) {
		return newest
	}
	return Slot(id[0] & 15)
}

func TestProgram(t *testing.T) {
	all := map[string]func(Slot) []byte{
		"short header":            func(s Slot) []byte { return short(id(t, s)) },
		"initial with our id":     func(s Slot) []byte { return long(0, id(t, s)) },
		"handshake with our id":   func(s Slot) []byte { return long(2, id(t, s)) },
		"initial of a client, 18": func(Slot) []byte { return long(0, make([]byte, 18)) },
		"initial of a client, 8":  func(Slot) []byte { return long(0, make([]byte, 8)) },
		"stateless reset":         func(Slot) []byte { return append([]byte{0x40}, make([]byte, 40)...) },
		"random": func(Slot) []byte {
			p := make([]byte, 40)
			for i := range p {
				p[i] = byte(rand.Uint32())
			}
			if rand.N(2) == 0 {
				p[5] = idLength
			}
			if i := 1 + 5*int(p[0]>>7); rand.N(2) == 0 {
				p[i], p[i+1] = markHigh|p[i]&15, markByte
			}
			return p
		},
	}
	lives := []Live{0, 1, 0xffff, Live(0).With(3).With(15), 0xfffe}
	for name, packet := range all {
		for _, live := range lives {
			for newest := range Slot(Slots) {
				vm, err := bpf.NewVM(program(live, newest))
				if err != nil {
					t.Fatal(err)
				}
				for s := range Slot(Slots) {
					p := packet(s)
					want := expected(p, live, newest)
					if got, err := vm.Run(p); err != nil || got != int(want) {
						t.Fatalf("%s of slot %d, live %016b, newest %d: %d, %v; want %d (%x)", name, s, live, newest, got, err, want, p[:16])
					}
				}
			}
		}
	}
}

func TestNextSlot(t *testing.T) {
	live := Live(0).With(0)
	for bound := 1; bound < Slots; bound++ { // whoever has ended: a new socket is of a new slot
		if s, ok := live.Next(bound); !ok || int(s) != bound {
			t.Fatalf("after %d sockets: %d %v", bound, s, ok)
		}
	}
	if s, ok := live.Next(Slots); !ok || s != 1 {
		t.Errorf("all are bound: %d %v, want the first whose process has ended", s, ok)
	}
	if s, ok := Live(0xffff).Next(Slots); ok {
		t.Errorf("all are alive: %d", s)
	}
	if l := Live(0xffff).Without(7); l.Has(7) || !l.Has(6) || !l.Has(8) {
		t.Errorf("without 7: %016b", l)
	}
}
