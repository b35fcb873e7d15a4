// Package outbound opens a connection to a service: through a link to another
// cluster's gateway or straight to an endpoint of the own one, whichever routing
// chooses, and on to the next choice when one refuses.
//
// Dial returns as soon as the first choice has been given the caller's first
// bytes; it does not wait for the far gateway. Bytes written before the answer
// are sent at once and kept, up to MaxReplay; a typed refusal replays them to the
// next choice, unseen by the caller. Once the far gateway accepts, the copy is
// dropped. When the copy is full, writes wait for the answer.
//
// A stream whose link dies before the answer may have been served: its fate is
// open, so it is not replayed but fails, and the caller is reset.
//
// A Conn is a splice.Conn: the attempts run inside of its first Read, so that a
// connection needs no goroutine beyond the two of its splice.
package outbound
