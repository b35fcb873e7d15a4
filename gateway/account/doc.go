// Package account keeps the account of what a gateway carried: one metric sample
// and one access log line per connection or request, with the same closed words
// whichever way it came in.
//
// The way is "tcp", "http" or "mtls" for callers of this cluster, "stream" or "request"
// for what peers' gateways send, "control" for the own federation. The reason is
// "ok" or the word of what ended it (attempt.Error, wire.Status, route.Verdict).
//
// Labels are bounded by the route table: what asks for a service that the table
// does not have counts as service "unknown", and the series of a service go when
// it leaves the table.
package account
