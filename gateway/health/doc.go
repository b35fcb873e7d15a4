// Package health checks the endpoints of the own cluster actively: by a TCP
// connect, an HTTP GET, or the gRPC health protocol (grpc.health.v1, spoken over
// the standard library's HTTP/2, so that the core needs no gRPC).
//
// An endpoint's state changes after Fall failures or Rise successes in a row; it
// has none before its first results. Checks are spread by jitter and at most
// MaxConcurrent run at once, whatever the number of endpoints.
//
// A late checker blames itself: a timeout during which this process did not run
// (stopped, starved, a long collection) proves nothing of the endpoint and is
// discarded. A refused connection is proof whenever it is seen.
//
// What a check finds is evidence for the plan (gateway/board); nothing here
// decides about routes.
package health
