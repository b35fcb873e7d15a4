// Package exchange carries what federations tell each other: summaries of
// exported services, the roster of gateways, the bundle of the trust domain, and
// the conflicts that concern the listener. Nothing else crosses clusters here,
// and never an address of an endpoint.
//
// Exporter is the server's side, an http.Handler; Importer is the client's side
// for one peer, built on an http.Client. Both are given their connections:
// mutual TLS and the tunnel are not this package's matter. The origin of what is
// said is the authenticated identity at the other end, which the owner of the
// connection tells (ExporterOptions.Peer, ImporterOptions.Client); nothing in
// the data can name another one.
//
// # Requests
//
//	GET /exchange/v1/catalog                                   one full list
//	GET /exchange/v1/catalog?watch=true&epoch=E&since=V        a list or what changed, then every change
//	GET /exchange/v1/catalog?watch=true&epoch=E&since=V&full=true   the same, a full list in any case
//	GET /exchange/v1/explain?...                               delegated to the owner
//
// epoch and since are the highest (epoch, version) that the client holds, 0 for
// none. A server that knows less than that (a restored backup, a lost disk)
// raises its epoch above it.
//
// A watch over HTTP/1.1 may ask for an upgrade ("Connection: Upgrade", "Upgrade:
// isthmus-exchange/1"). Then the answer is 101 in place of 200, the connection is
// the stream's alone, and the lines follow the header as they are, without chunks.
// The client sends an empty line at least every 35 s, and nothing else: without it
// the server ends the stream. A server that does not know the upgrade, or is asked
// for none, answers 200.
//
// # Format, version 1
//
// The answer is a stream of lines, each one JSON object of at most 1 MiB with a
// "type":
//
//	{"type":"begin","format":1,"cluster":"C","epoch":E,"version":V}                       a full list begins
//	{"type":"begin","format":1,"cluster":"C","epoch":E,"version":V,"delta":true,"since":S} what changed after S begins
//	{"type":"service","service":{...catalog.Summary}}                                     put a service
//	{"type":"remove","name":"web.shop"}                                                    remove one; in a delta only
//	{"type":"roster","gateways":[{...catalog.Gateway}]}                                    the whole roster
//	{"type":"bundle","bundle":{...}}                                                       a SPIFFE bundle document
//	{"type":"conflicts","conflicts":[{...merge.Conflict}]}                                 what the origin's merge found against the listener's offers
//	{"type":"sync","epoch":E,"version":V,"services":N,"digest":"..."}                      the batch is complete
//	{"type":"heartbeat","epoch":E,"version":V,"digest":"..."}                              between batches, every 5 s
//
// A batch is everything from begin to sync. It is applied whole at its sync and
// not before: a stream that is cut anywhere changes nothing, and nothing is
// removed before the origin has said that its list is complete. A connection
// starts with one batch, which may be empty ("you are up to date").
//
// The digest is the hexadecimal XOR over all items of SHA-256(key NUL value):
// the keys are "service/NAME", "roster", "bundle" and "conflicts", the values
// the bytes of the JSON value on the wire. It finds drift, not forgery: the
// stream is authenticated. A digest that differs asks for a full list.
//
// A reader ignores events of a type and fields of a name that it does not know,
// and ports of a protocol that it does not know; it refuses a format that is
// not 1, names that are given twice in one object, and everything that exceeds
// its Limits. A later version that must be understood has another format.
//
// # Order
//
// (epoch, version) of an origin never falls at a listener: older is refused,
// whatever a clock says. Versions count changes of what one peer is told; each
// peer has its own. A restart of the exporter begins a new epoch.
//
// # Listening
//
// Applier is the listener's pure state machine: lines and the time go in, new
// immutable Snapshots come out; on any refusal the last good one stays. Importer
// feeds it from the network, keeps the last good state on disk, and watches the
// lease: 30 s without a word and the peer's control plane counts as lost, which
// marks its data and removes nothing.
package exchange
