// Package mcs joins a Kubernetes cluster to the federation by the Multi-Cluster
// Services API (KEP-1645), in both directions:
//
//   - a ServiceExport becomes an export of the own cluster, and is told what became of
//     it by its conditions;
//   - what the cluster imports becomes a ServiceImport with the address of a Service
//     that was made for it, whose EndpointSlices point at the gateways' ways in; on
//     request an Istio ServiceEntry, too.
//
// A Sync is one writer by a Lease. Each of its passes compares what is to be with what
// is there and writes the difference; nothing else is remembered, so that it may die at
// any point. It writes and deletes only what bears its mark (kubernetes.OwnerLabel, and
// for exports the federation's memory of who applied what), makes no pass while it does
// not see all of both sides, and withdraws an import only after it has been gone for a
// while: a federation that starts knows nothing yet.
//
// What to make of both sides is pure (exports.go, imports.go, ways.go); pass.go reads and
// writes.
//
// Services that are made for imports bear the mark, too, and are exported by nobody:
// the source leaves them out, and a ServiceExport of one is told that it is not valid.
//
// The package knows no federation but the interface Federation; cmd/isthmus-source has
// the one that speaks the REST API.
package mcs
