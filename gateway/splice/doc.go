// Package splice moves bytes between two connections until both directions are
// done, and keeps the meaning of each end of a TCP connection on the way:
// half-close stays half-close, a reset stays a reset.
//
// A Conn is one of the two: a tunnel stream is one as it is, TCP wraps a
// net.Conn. What happens at one end maps to the other like this, both ways:
//
//	read says EOF (FIN)        CloseWrite: the other end reads EOF, and may
//	                           still send
//	read fails (RST)           Reset with a typed code; on TCP a RST. What was
//	                           read before is delivered first
//	write fails (RST, EPIPE)   Reset of both ends: the reader is gone, so its
//	                           writer must hear of it
//	idle, drain, link died     Reset of both ends with that code
//
// Run ends when both directions are done, never earlier: a stream is freed only
// when both of its halves are, and closing a QUIC connection before the other
// side has seen the FIN would turn its EOF into an error.
//
// tcpway, origin, control and the upgrade path of the HTTP way use it.
package splice
