// Package catalog holds the values that every other part of Isthmus speaks in:
// localities, service names, ports, endpoints, services, snapshots and the
// summaries that cross clusters.
//
// Values are validated where they enter (Parse..., New...) and immutable from
// then on, so that they can be shared between goroutines, kept as last good
// state and compared. Everything has one deterministic order and one canonical
// text form, because two replicas that read the same sources must publish the
// same bytes.
//
// The package imports nothing of Isthmus.
package catalog
