package identity

import (
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Authorizer decides whether an authenticated peer may go on. It returns nil for
// yes and an error that says why for no. It is called once per handshake and on
// every sweep of live links, from several goroutines. A nil Authorizer denies
// everything.
//
// It must be a pure question: crypto/tls asks a server's before the client has
// proven that it holds the key of the certificate it showed, so a yes is not yet
// an authenticated peer.
type Authorizer func(spiffeid.ID) error

// AuthorizeIDs admits exactly the given IDs; with none it denies everything.
func AuthorizeIDs(ids ...spiffeid.ID) Authorizer {
	allowed := make(map[spiffeid.ID]struct{}, len(ids))
	for _, id := range ids {
		allowed[id] = struct{}{}
	}
	return func(id spiffeid.ID) error {
		if _, ok := allowed[id]; !ok {
			return fmt.Errorf("%s is not among the %d allowed ids", id, len(allowed))
		}
		return nil
	}
}

// AuthorizeFunc admits the IDs for which allowed returns true. It is asked at
// each handshake, so that a change of configuration takes effect at once.
func AuthorizeFunc(allowed func(spiffeid.ID) bool) Authorizer {
	return func(id spiffeid.ID) error {
		if !allowed(id) {
			return fmt.Errorf("%s is not allowed", id)
		}
		return nil
	}
}

// AuthorizeMemberOf admits every ID of the given trust domains. It is meant for
// listeners whose real decision comes later, per request; between clusters use
// exact IDs.
func AuthorizeMemberOf(domains ...spiffeid.TrustDomain) Authorizer {
	domains = slices.Clone(domains)
	return func(id spiffeid.ID) error {
		if !slices.Contains(domains, id.TrustDomain()) {
			return fmt.Errorf("%s is not of an allowed trust domain", id)
		}
		return nil
	}
}

// AuthorizeAny admits whoever authenticates. It is meant for bootstrap and for
// tests.
func AuthorizeAny() Authorizer {
	return func(spiffeid.ID) error { return nil }
}
