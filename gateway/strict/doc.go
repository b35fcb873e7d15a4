// Package strict refuses HTTP/1 requests that two parsers could read differently.
//
// net/http reads leniently: bare LF as a line end, folded header lines, a
// Content-Length beside a Transfer-Encoding (which it then drops). Each is a step
// of request smuggling where another parser stands behind. A Conn follows the
// framing of what the server reads, byte for byte, and ends the stream with an
// error at the first byte that is not strict HTTP/1.1, which the server answers
// with 400. It changes and keeps nothing.
//
// Refused: bare CR and LF, folded lines, white space before a colon, control
// bytes, anything but exactly one Host (HTTP/1.1), Transfer-Encoding other than
// one "chunked", Transfer-Encoding beside Content-Length or in HTTP/1.0, more
// than one Content-Length or one that is no plain number, malformed chunks, and
// heads beyond the limit. What a peer pipelines is judged request by request.
//
// A caller that closes its side after its request is taken by net/http for one
// that has gone, which cancels the request. Where bytes are carried for a caller
// (a TCP way in), that would break what a direct connection allows;
// Options.HalfClose keeps the end of the stream from the server until it has
// answered.
//
// An HTTP/2 preface as the first line opens the way for good, and so does Release,
// after an Upgrade.
package strict
