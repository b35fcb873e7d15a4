// Package gateway is the data plane of a cluster: it takes connections and
// requests from the workloads beside it, chooses where they go, carries them to
// other clusters' gateways over QUIC links, and serves what those carry here.
//
// The package wires the parts and owns their life; each part is a package of
// its own below this one:
//
//	tunnel, wire    links between gateways and what travels on them
//	tcpway, httpway the ways in
//	origin          the far end: what peers' gateways ask of this cluster
//	endpoint        connections to the own cluster's endpoints
//	board           the plan in force, and the evidence that it is compiled from
//	health          active checks of the own cluster's endpoints
//	tablestore      the last good route tables on disk
//	splice, replay  bytes between two connections; the start of one, kept
//	estate          what a process hands to the one after it, in an upgrade in place
//	control, admin  the federation's way to its peers; metrics and readiness
//
// Contracts. A Gateway serves from its disk snapshot and key alone: the
// federation, Consul, DNS and telemetry are on neither the boot path nor the
// request path. A table that is older, broken or empty never replaces a good
// one. Targets are service names of the table, never addresses from the wire.
// What comes in over a link goes to an endpoint of the own cluster or nowhere.
// Everything is bounded, and what is refused is refused with a typed reason
// that is logged and counted.
//
// cmd/isthmus embeds a Gateway; it delivers tables from the federation and
// takes the reports back (TableSource, ReportSink).
package gateway
