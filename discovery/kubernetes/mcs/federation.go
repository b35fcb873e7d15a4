package mcs

import (
	"context"
	"errors"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Federation is the own cluster's federation, as far as a Sync needs it.
type Federation interface {
	// State is what the federation knows now. Its error says that this is not all of
	// it, or not of now; then nothing is concluded from it.
	State() (State, error)
	// PutExport writes an export and remembers whose it is; ErrForeign where one of
	// that name is somebody else's.
	PutExport(ctx context.Context, e Export) error
	// DeleteExport removes an export that was put before.
	DeleteExport(ctx context.Context, name string) error
}

// ErrForeign says that somebody else made what bears this name.
var ErrForeign = errors.New("somebody else made one of that name")

// State is what is read of the federation. It is not changed by whoever reads it.
type State struct {
	// Exports are those that were put, by name.
	Exports map[string]Export
	// Imports are the services that peers offer and that are taken.
	Imports []Import
	// Conflicts are what clusters say against a service, in one line each.
	Conflicts map[catalog.ServiceName][]Conflict
	Gateways  []Gateway
}

// Export offers one service.
type Export struct {
	Name    string
	Service catalog.ServiceName
	// To are peers; "*" is every one.
	To []string
}

// Import is one imported service.
type Import struct {
	Service  catalog.ServiceName
	Ports    []catalog.Port
	Clusters []catalog.ClusterName
}

// Conflict is one disagreement on a service.
type Conflict struct {
	// Ports says that it is about a port; else it is about who bears the name.
	Ports bool
	Text  string
}

// Gateway is one own gateway.
type Gateway struct {
	Name string
	Zone string
	// Ready is false of one that is silent or draining.
	Ready bool
	Ways  []Way
}

// Way is one listener of a gateway: of one port of one service, or (without Service) of
// everything that speaks HTTP, by authority.
type Way struct {
	Address netip.AddrPort
	Service catalog.ServiceName
	// Port is the port's name, "" for the service's only or default one.
	Port string
}
