// Package generation lets several processes of one gateway share its link port.
//
// When a gateway is upgraded in place, the process before goes on with its links
// until their streams have ended, and the successor takes every new one, both at one
// UDP address. Each process has a socket of its own there (SO_REUSEPORT) and a
// number, its [Slot], which it writes into every connection ID that it gives out
// ([IDs]). A classic BPF program in the kernel ([Steer]) reads it from each packet
// and picks the socket: no packet is copied or looked at in user space, and none is
// lost when a peer's address changes.
//
// Four rules make it hold:
//
//   - The program's answer is an index in the order in which the sockets were bound,
//     and the kernel moves the last socket into the place of one that closes. So no
//     socket is closed while a later one is open: each process keeps those of its
//     predecessors, and binds the one of its successor ([Successor]).
//   - A packet whose connection ID is of no live process goes to the newest, which
//     answers with a stateless reset: all have one key.
//   - The first packets of a connection carry an ID that the client chose, and go to
//     the newest. A mark tells our IDs from those; a client's has it once in some
//     50,000 connections, and is then refused by the process that it meets, and
//     dials again.
//   - A program replaces the one before in one step.
//
// What names nobody's ID is not found by the one that it is for: a peer's stateless
// reset, whose ID is random, reaches the newest alone. A process before it finds out by
// its probes that the peer is gone.
//
// Elsewhere than on Linux there is no such program, and no upgrade in place.
package generation
