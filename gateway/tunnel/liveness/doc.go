// Package liveness decides whether a link is alive: by probes that both ends
// send, by any other packet that comes, and by what the other end says that it
// heard of ours.
//
// It is a pure state machine: the time, the count of packets and the probes are
// arguments. gateway/tunnel runs it on a link's control connection; the simulation
// of the control and decision layer runs it on modelled links.
package liveness
