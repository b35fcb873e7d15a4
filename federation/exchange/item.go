package exchange

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The keys of items: one for each service and one for each thing there is one of.
const (
	rosterKey    = "roster"
	bundleKey    = "bundle"
	conflictsKey = "conflicts"
)

func serviceKey(n catalog.ServiceName) string { return "service/" + n.String() }

// digest is the XOR of the hashes of all items, so that a change costs what
// changed. It finds drift between two honest ends and is no defence.
type digest [sha256.Size]byte

func hashItem(key string, value json.RawMessage) digest {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(value)
	return digest(h.Sum(nil))
}

// toggle adds a hash that is not in, and takes out one that is.
func (d *digest) toggle(h digest) {
	for i := range d {
		d[i] ^= h[i]
	}
}

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// Position orders the states of one origin.
type Position struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"`
}

// Before reports whether p is older than o.
func (p Position) Before(o Position) bool {
	return p.Epoch < o.Epoch || p.Epoch == o.Epoch && p.Version < o.Version
}
