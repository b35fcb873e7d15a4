// Package survive breaks regions under load, the whole stack of gateways on the
// simulated clock: real QUIC, TLS, SVIDs, ways in and routing over a simulated
// packet network, so that times can be asserted and hundreds of trials fit in
// seconds. Each trial draws the distances, the loss and the moment of the fault
// against the probes from a seed, which it prints when it fails.
//
// A plain run makes a few trials of each fault. ISTHMUS_SURVIVE=full makes as many
// as the promises are about: 500 a fault, 20 seeds of an hour. ISTHMUS_SURVIVE=100
// makes so many of a fault; -hours 2 -first 4 two seeds of an hour, the fifth and the sixth.
//
// What came of it last is in docs/operations.md, below the faults that leave no trace.
package survive
