package endpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"

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

// secureLife is how long an mTLS connection in a pool gets new requests. An endpoint
// judges who calls it, and a certificate is shown, when a connection is made: without a
// bound, a busy pool would never learn of an intention that was withdrawn.
const secureLife = time.Minute

// host is the target in the place of a URL's host, by which net/http keeps its pools:
// the address where that says all, else a name that only this target has, and only for
// secureLife. Connections of a former name finish what they carry and idle out.
func (t target) host(now time.Time) string {
	if t.transport == catalog.Plain {
		return t.address.String()
	}
	sum := sha256.Sum256([]byte(string(t.transport) + " " + t.address.String() + " " + t.server))
	// Pools do not change their names all at once.
	phase := time.Duration(binary.BigEndian.Uint16(sum[16:])) * secureLife >> 16
	generation := now.Add(phase).UnixNano() / int64(secureLife)
	return "t" + hex.EncodeToString(sum[:16]) + "-" + strconv.FormatInt(generation, 10) + ":" + strconv.Itoa(int(t.address.Port()))
}
