// Package codel says which requests in a queue are not worth serving any more: those
// that waited too long in a queue that has been standing for too long.
//
// What a standing queue is follows RFC 8289 (controlled delay): the time that each
// request has waited when it leaves the queue is compared with a target; a queue whose
// waits have all been above it for a whole interval is no burst that passes, it only
// delays everybody. The state is one time stamp and one bit.
//
// What is dropped differs from the RFC. Its law, the next drop after
// interval/sqrt(count), speaks to senders that slow down when they lose a packet.
// Callers of a service do not: at twice what it can serve, the law would need thousands
// of drops to catch up, and every request would be late until then. So while the queue
// stands, every request that has waited longer than the target is dropped, which holds
// the wait of those that are served at the target at once; while it does not, requests
// may wait as long as the interval, so that a burst is served whole. It stands until it
// was empty, or until no wait was above half the target for an interval: one good wait,
// which ends it in the RFC, is no sign where answers come in lumps.
//
// Times are Unix nanoseconds and arguments.
package codel
