package tunnel

import "github.com/quic-go/quic-go"

// The simulated network cannot cut one connection of a link without the others:
// they share their addresses.

// CutConnections closes the connections with the given number, of links that the
// node dialed or of those that it accepted, and returns how many.
func (n *Node) CutConnections(number uint32, dialed bool) int {
	cut := 0
	for _, c := range n.allConnections() {
		if l := c.link.Load(); l != nil && c.number == number && l.dialed == dialed {
			_ = c.qc.CloseWithError(quic.ApplicationErrorCode(19), "cut by a test")
			cut++
		}
	}
	return cut
}
