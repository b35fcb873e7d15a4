package catalog

import (
	"net/netip"
	"strings"
)

// Protocol is what a port speaks; it decides how a gateway carries and checks it.
type Protocol string

// The protocols of a port. HTTP covers HTTP/1.1 and HTTP/2, GRPC is HTTP/2 in
// clear text (h2c), TLS is an opaque TLS stream, TCP any byte stream.
const (
	TCP  Protocol = "tcp"
	HTTP Protocol = "http"
	GRPC Protocol = "grpc"
	TLS  Protocol = "tls"
	UDP  Protocol = "udp"
)

// DefaultPort is the port name of a service whose source knows no port names.
const DefaultPort = "default"

// Port is one named port of a service.
type Port struct {
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
}

// Health is what the source says of an endpoint: a hint. What the data path saw
// comes first (see federation/route).
type Health string

// The health states of a source, from the best to the worst. Critical and
// Maintenance are explicit words and pass the mass-withdrawal guard.
const (
	Passing     Health = "passing"
	Unknown     Health = "unknown" // the source has no health checks
	Warning     Health = "warning"
	Critical    Health = "critical"
	Maintenance Health = "maintenance"
)

// Usable reports whether the source leaves the endpoint in service.
func (h Health) Usable() bool { return h != Critical && h != Maintenance }

// Transport is how a connection to an endpoint is made.
type Transport string

// The transports of an endpoint. Plain is the zero value: the bytes of the port's
// protocol, as they are. MTLS wraps them in TLS with certificates at both ends:
// the dialing side shows an X.509-SVID that the endpoint's mesh accepts, and the
// endpoint must prove that it is ServerID. A Consul sidecar or Connect-native
// service is one.
const (
	Plain Transport = ""
	MTLS  Transport = "mtls"
)

// CapacityLabel is the label of an endpoint that says how many requests or
// connections it takes at once, as a decimal number.
const CapacityLabel = "isthmus-capacity"

// Endpoint is one address and port of a service. Endpoints never leave their
// cluster.
type Endpoint struct {
	// ID is unique within the service and source, and stable over re-reads.
	ID string `json:"id"`
	// Port is the name of the service's port that Address serves.
	Port    string         `json:"port"`
	Address netip.AddrPort `json:"address"`
	// Locality is complete (cloud, region, zone) where the source knows it.
	Locality Locality `json:"locality,omitzero"`
	// Weight is relative to the service's other endpoints; 1 to 65535.
	Weight uint32 `json:"weight"`
	Health Health `json:"health"`
	// Labels choose subsets (version=v2, ...).
	Labels map[string]string `json:"labels,omitempty"`
	// Transport is how the endpoint is dialed. One that is not Plain is never
	// dialed in plaintext: whoever cannot speak it has no connection to offer.
	Transport Transport `json:"transport,omitempty"`
	// ServerID is the SPIFFE ID that the endpoint must prove, exactly
	// (spiffe://TD.consul/ns/default/dc/DC/svc/NAME); set with MTLS and only then.
	ServerID string `json:"server_id,omitempty"`
	// Source names where the endpoint was read; set by merge (provenance).
	Source string `json:"source,omitempty"`
	// Quarantined is set by discovery's mass-withdrawal guard on an endpoint
	// that its source has withdrawn and that is kept for now. Where the
	// connection to it is plaintext it is used last, since its address may have
	// a new owner.
	Quarantined bool `json:"quarantined,omitempty"`
}

// Compare orders endpoints by port, address and ID: the order of Service.
func (e Endpoint) Compare(o Endpoint) int { return CompareEndpoints(&e, &o) }

// CompareEndpoints is Compare without a copy of either, for lists of very many.
func CompareEndpoints(a, b *Endpoint) int {
	if order := strings.Compare(a.Port, b.Port); order != 0 {
		return order
	}
	if order := a.Address.Compare(b.Address); order != 0 {
		return order
	}
	return strings.Compare(a.ID, b.ID)
}

// Service is one service as one source or one cluster knows it. It is immutable
// once it is in a Snapshot: Ports are sorted by name, Endpoints by Compare.
type Service struct {
	Name      ServiceName       `json:"name"`
	Ports     []Port            `json:"ports"`
	Endpoints []Endpoint        `json:"endpoints,omitempty"`
	Meta      map[string]string `json:"meta,omitempty"`
}

// Port returns the port of that name; "" asks for the only port, or the one
// named DefaultPort.
func (s *Service) Port(name string) (Port, bool) { return FindPort(s.Ports, name) }

// FindPort is Service.Port for a bare list of ports.
func FindPort(ports []Port, name string) (Port, bool) {
	if name == "" {
		if len(ports) == 1 {
			return ports[0], true
		}
		name = DefaultPort
	}
	for _, p := range ports {
		if p.Name == name {
			return p, true
		}
	}
	return Port{}, false
}
