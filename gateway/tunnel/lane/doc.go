// Package lane is the connection of the TLS lane: TLS 1.3 over TCP that carries one
// stream at a time, with the half-close and the resets of QUIC's streams. A call
// that has a TCP connection of its own has the kernel's congestion control, costs a
// fraction of what QUIC in user space costs per byte, and is held up by no other
// call; that a connection is authenticated once and used for many calls in turn is
// what makes it as quick to open.
//
// After the TLS handshake both directions are records, each a type (one byte), a
// length (three, big endian) and a body:
//
//	1 data      payload; the first one after both directions have ended opens a stream
//	2 end       half-close: nothing more comes in this direction (FIN)
//	3 reset     code: this direction is aborted; what came before is delivered
//	4 stop      number of the stream, code: the other direction is not read any more
//	5 close     code: the connection ends (CONNECTION_CLOSE)
//	6 datagram  passed to who reads, apart from the stream
//
// A stream is over when each direction has ended or was reset; the connection is then
// free for the next. Who stops reading throws away what still comes until the other
// end has ended its direction, so that the connection can be used again; one whose
// other end does not, in time, is closed, and what is still on it ends as a TCP
// connection does that is reset. A stop and a reset travel behind the payload that
// was sent before them. An end that only writes reads ahead, up to 64 KiB, to see them;
// behind more, they are not seen.
//
// The errors of streams and the causes of a connection's end are quic-go's types, as
// far as they say the same, so that gateway/tunnel has one vocabulary for both lanes.
package lane
