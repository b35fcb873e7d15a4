package syncout

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Way is a listener of one of the own gateways by which an imported service is
// called.
type Way struct {
	Service catalog.ServiceName
	// Port is the port's name, "" for the service's only or default one.
	Port     string
	Protocol catalog.Protocol
	Gateway  string
	// HTTP: the listener is the one for all services, by authority.
	HTTP bool
	// Mesh, where it is set: the listener is for sidecars alone, as a proxy of the service
	// of that name in Consul.
	Mesh    string
	Address netip.AddrPort
	// Reachable decides the entry's health, Reason is told with it.
	Reachable bool
	Reason    string
}

// Offer is everything that is imported now.
type Offer struct {
	Ways []Way
	// Gateways are those that are known. An entry of another one stays for a while:
	// a federation that has just started has not heard all of them.
	Gateways []string
}

// Offers says what is imported now; false means that nothing may be concluded yet,
// least of all that something is gone. It is asked every second.
type Offers func() (Offer, bool)
