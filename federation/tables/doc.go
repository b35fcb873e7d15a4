// Package tables makes what a federation hands out from what it knows: the
// route table for its own gateways, and for each peer the summaries of the
// services that are exported to it.
//
// Everything is pure: a merge.View, the compiled policy and the evidence of the
// gateways go in, values come out, and the same inputs give the same values in
// the same order. Table and Summarizer share what did not change with the view
// and with earlier summaries, so that a change costs the changed services.
//
// Summaries are the only thing by which a service becomes visible in another
// cluster. They count endpoints per port, zone and subset, never name them, and
// hold own endpoints only: what a peer exports to this cluster is never passed
// on to a third one.
//
// Package federation calls it whenever a source, a peer, a rule or the evidence
// has changed.
package tables
