// Package account opens AWS accounts for reading: credentials by the SDK's own
// chain, from named files or by assuming a role; and for each region of an account
// one limiter of the calls' rate and one budget of retries, which the clients of
// all APIs share.
//
// It also guards every call: an endpoint that is an address gets no host prefix, an
// answer without a body is an error (the SDK takes it for an empty one), and
// Reason puts what can go wrong into a closed set.
//
// Used by providers/aws and the readers below it.
package account
