// Package attempt runs the attempts of one call: authorize, choose, try, judge,
// choose again. Every way in uses it, and the far end for its own endpoints, so
// that one place decides what is retried and whom a failure is charged to.
//
// A way in starts a Sequence and asks for its Next attempt until one is
// answered. Each Attempt is ended exactly once, by Fail before it was answered or
// by End after; Answered comes between. The way in does the I/O.
//
// Rules: at most Traffic.Retries extra attempts, each from the service's budget,
// after a jittered delay that fits the caller's deadline. A choice whose service
// failed is not chosen again; one whose link failed may be, once, since another
// gateway of that cluster may carry it.
package attempt
