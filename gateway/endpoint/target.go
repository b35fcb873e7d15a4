package endpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// target is what a connection is made to: an address, and who must be there. Pools
// are kept per target: who may be spoken to at an address changes with its owner.
type target struct {
	address   netip.AddrPort
	transport catalog.Transport
	server    string
}

type targetKey struct{}

func targetOf(e *catalog.Endpoint) target {
	return target{address: e.Address, transport: e.Transport, server: e.ServerID}
}

// host is the target in the place of a URL's host, by which net/http keeps its pools:
// the address where that says all, else a name that only this target has.
func (t target) host() string {
	if t.transport == catalog.Plain {
		return t.address.String()
	}
	sum := sha256.Sum256([]byte(string(t.transport) + " " + t.address.String() + " " + t.server))
	return "t" + hex.EncodeToString(sum[:16]) + ":" + strconv.Itoa(int(t.address.Port()))
}
