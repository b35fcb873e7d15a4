// Package consul reads a Consul catalog as a source.
//
// Two blocking queries serve as triggers, whatever the number of services: the
// list of services and the state of all checks. What they show to have changed
// is read again, service by service, from a bounded pool; what they cannot show
// (an address or weight of an instance without a check) is found by a sweep,
// which follows every movement of the list's index, coalesced, and every ten
// minutes regardless. A snapshot is published after the first complete pass and
// then whenever the content changed.
//
// The rules of blocking queries: an index that goes back starts anew, one of 0
// counts as 1, a return is no proof of a change, and no answer, however fast,
// makes the source spin.
package consul
