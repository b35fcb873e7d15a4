package unit

import (
	"context"
	"errors"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Name names a unit.
type Name struct {
	// Account is the account's name in the configuration, Region its region, Kind
	// what is read there.
	Account, Region, Kind string
}

// String is "account/region/kind"; endpoint IDs begin with it.
func (n Name) String() string { return n.Account + "/" + n.Region + "/" + n.Kind }

// Reader reads one unit.
type Reader interface {
	// Read returns all that the unit holds, or an error. With full false it may
	// return what it returned before where a cheaper question says that nothing
	// has changed. It is called from one goroutine at a time.
	Read(ctx context.Context, full bool) (*Content, error)
}

// Content is what one unit holds. It belongs to everybody: nothing of it changes.
type Content struct {
	Services map[catalog.ServiceName]*catalog.Service
	// Rejected counts items that were left out, by the reasons of this package.
	Rejected map[string]int
}

// Endpoints is their number.
func (c *Content) Endpoints() int {
	n := 0
	for _, s := range c.Services {
		n += len(s.Endpoints)
	}
	return n
}

// The faults that readers find in answers that arrived whole.
var (
	// ErrInconsistent says that two answers contradict each other: AWS's views
	// converge in time, and until then neither is published.
	ErrInconsistent = errors.New("answers contradict each other; they may not have converged yet")
	// ErrMissing says that something that the configuration names does not exist.
	// It is no empty answer: a typing error must not withdraw a service.
	ErrMissing = errors.New("does not exist")
	// ErrAnswer says that an answer lacks what each answer has, so that it cannot
	// be told from a cut one.
	ErrAnswer = errors.New("the answer lacks its list")
)

// Instance is what the readers need to know of a virtual machine.
type Instance struct {
	ID string
	// Private, Public and IPv6 are its addresses; the zero value where it has none.
	Private, Public, IPv6 netip.Addr
	// Zone is the zone's id (use1-az4).
	Zone string
	// State is pending, running, shutting-down, terminated, stopping or stopped.
	State string
	Tags  map[string]string
}

// Address is the one of that choice.
func (i Instance) Address(a Address) netip.Addr {
	switch a {
	case Public:
		return i.Public
	case IPv6:
		return i.IPv6
	default:
		return i.Private
	}
}

// Inventory is what readers ask of a region besides their own API.
type Inventory interface {
	// Zone returns the id of the zone of that name, which means another place in
	// each account, or "" where the region has none of that name.
	Zone(ctx context.Context, name string) (string, error)
	// Instances returns those of the ids that exist.
	Instances(ctx context.Context, ids []string) (map[string]Instance, error)
}

// Address chooses one of an instance's addresses.
type Address string

// The choices; Private is the default.
const (
	Private Address = "private"
	Public  Address = "public"
	IPv6    Address = "ipv6"
)

// Valid reports whether a is one of the choices.
func (a Address) Valid() bool { return a == Private || a == Public || a == IPv6 }
