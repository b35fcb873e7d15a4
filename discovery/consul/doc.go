// Package consul reads a Consul catalog as a source.
//
// Two blocking queries serve as triggers, whatever the number of services: the
// list of services and the state of all checks. What they show to have changed
// is read again, service by service, from a bounded pool and from the leader,
// so that a read sees what triggered it. What they cannot show (an address or
// weight of an instance without a check) is found by a sweep over all services,
// from any server, which follows every movement of the list's index, spread out,
// and every ten minutes regardless.
//
// A snapshot is published after the first complete pass and then when everything
// that was seen to change has been read. A service that cannot be read holds the
// others back for a few attempts only; then its last good state goes on beside
// their new one.
//
// The rules of blocking queries: an index that goes back starts anew, one of 0
// counts as 1, a return is no proof of a change, and no answer, however fast,
// makes the source spin. Answers that Consul does not vouch for (no leader,
// filtered by ACLs, a list without Consul's own service, a listed service without
// an instance) are failures, not news.
//
// Used by cmd/isthmus for sources of kind "consul"; consultest runs real agents.
package consul
