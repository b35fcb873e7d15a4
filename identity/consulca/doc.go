// Package consulca gets identities from the CA of a Consul service mesh (Consul
// Connect): the leaf certificate of a service, and the roots that it hangs from, by
// the API of the local agent.
//
// A [Client] follows the roots once for all; each [Leaf] is the certificate of one
// service and an identity.Feed, so that an identity.Source holds it under the rules
// that hold for every other: last good data stays, an expired certificate is never
// presented, a chain is checked against the roots of its own trust domain alone, and
// every TLS configuration comes from package identity.
//
// Both are blocking queries: a rotated leaf or root is here as soon as the agent has
// it. While the agent is gone, what is held serves for as long as it is valid.
//
// consul/api is not used: two queries need no SDK, and this package must not know
// catalogs.
package consulca
