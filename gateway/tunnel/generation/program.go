package generation

import "golang.org/x/net/bpf"

// The places of a QUIC version 1 packet (RFC 9000, section 17).
const (
	longHeader   = 0x80 // bit of the first byte
	shortID      = 1
	longIDLength = 5
	longID       = 6
)

// program picks the socket of a packet, which starts at offset 0. What is too short
// for a load ends the program with 0 in the kernel, which is a socket like any
// other: nobody's packets are that short.
func program(live Live, newest Slot) []bpf.Instruction {
	const end = 19 // where the packet is the newest process's
	to := func(from, there int) uint8 { return uint8(there - from - 1) }
	return []bpf.Instruction{
		0: bpf.LoadAbsolute{Off: 0, Size: 1},
		1: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: longHeader, SkipTrue: to(1, 4)},
		2: bpf.LoadConstant{Dst: bpf.RegX, Val: shortID},
		3: bpf.Jump{Skip: uint32(to(3, 7))},
		4: bpf.LoadAbsolute{Off: longIDLength, Size: 1},
		5: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: idLength, SkipTrue: to(5, end)},
		6: bpf.LoadConstant{Dst: bpf.RegX, Val: longID},
		// X is where the connection ID begins.
		7:  bpf.LoadIndirect{Off: 1, Size: 1},
		8:  bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: markByte, SkipTrue: to(8, end)},
		9:  bpf.LoadIndirect{Off: 0, Size: 1},
		10: bpf.ALUOpConstant{Op: bpf.ALUOpXor, Val: markHigh},
		11: bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: Slots - 1, SkipTrue: to(11, end)},
		// A is the slot: is its process alive?
		12:  bpf.TAX{},
		13:  bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(live)},
		14:  bpf.ALUOpX{Op: bpf.ALUOpShiftRight},
		15:  bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1},
		16:  bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: to(16, end)},
		17:  bpf.TXA{},
		18:  bpf.RetA{},
		end: bpf.RetConstant{Val: uint32(newest)},
	}
}
