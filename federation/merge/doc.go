// Package merge makes one View of everything a cluster may call: its own
// sources' snapshots and what its peers export to it.
//
// Merge is a pure function: the same inputs give the same View, byte for byte,
// in whatever order peers, summaries and updates came, and giving an input twice
// changes nothing. Each origin writes only its own part: a peer's data becomes
// offers under the peer's authenticated name, and nothing in it can touch an
// endpoint, a port or an offer of another origin.
//
// # Own sources
//
// Sources stand in an order of priority. A service that several know is their
// union. An address that several list for one port is one endpoint: the first
// source names it and gives its weight, later ones fill what the first does not
// know (locality, labels, health where there are no checks). What any source
// calls critical or in maintenance is so: each of them is an explicit word.
// Provenance says for every port, meta key and filled field which source it is
// from; an endpoint's own Source field holds for the rest of it.
//
// # Peers
//
// A peer's summary counts only where an import takes it, under the name that
// the import gives. As in MCS-API (KEP-1645) the ports of a service are the union of the
// ports of all clusters, and a call to a port goes only to clusters that expose
// it. Unlike there, the age of an export decides nothing, since a peer could
// back-date it: where two clusters disagree on a port's protocol, the own
// cluster wins, then the importer's order of clusters, then the name.
//
// A conflict never disturbs live traffic: the loser's offer keeps its own ports
// and protocols and stays in use. It is recorded (Conflict), for the own
// operators and to be shown to every exporter that is involved.
//
// # Cost
//
// Update gives what Merge gives, sharing with an earlier View each service whose
// inputs are the same pointers. Where Input.Rules says that the import rules are
// those of before, a change costs the services that sources and peers changed,
// and comparisons of pointers; else a pass over the names of services besides,
// never one over all endpoints. Changes tells what two views do not share.
// Sources and exchange share structure in the same way.
//
// The package imports discovery/catalog only. federation/tables turns a View
// into route tables and summaries.
package merge
