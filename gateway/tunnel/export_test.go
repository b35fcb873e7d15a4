package tunnel

import (
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/quic-go/quic-go"
)

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

// WithoutReauthentication makes the node one of an older version, for links that
// come up after it.
func (n *Node) WithoutReauthentication() { n.features.Store(0) }

// Connections counts those that the node keeps, of links or on their way to one.
func (n *Node) Connections() int { return len(n.allConnections()) }

// WithoutSubsets makes the node one of a version that passes over Header.Subset, for links
// that come up after it.
func (n *Node) WithoutSubsets() { n.features.Store(wire.FeatureReauth) }
