// Package admin serves what operators and their machines look at: Prometheus
// metrics, liveness, readiness with the culprit's name, and a few views of the
// gateway's state as JSON. It changes nothing and shows no secret; profiles are not
// here, since this is a TCP port.
//
//	GET /metrics          Prometheus
//	GET /healthz          200 while the process serves this
//	GET /readyz           200 if every condition holds, else 503; the body lists them
//	GET /debug/table      the route table in force: epoch, version, hash, counts
//	GET /debug/links      the links
//	GET /debug/explain    the ledger of a decision: ?service=NAME&port=PORT
package admin
