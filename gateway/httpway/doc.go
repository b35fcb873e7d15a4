// Package httpway is the way in for HTTP/1.1, HTTP/2 without TLS and gRPC: one
// listener for all services, each request routed by its authority (package
// authority) and balanced by itself, so that a long-lived connection never pins
// its requests to one place.
//
// Only strict HTTP/1.1 is taken (package strict). Fields that only gateways write
// are removed from every request. What fails before the first byte of an answer
// goes to the next choice if it was certainly not delivered, or is idempotent and
// its body, up to MaxReplay, is still there. WebSocket and other upgrades are
// carried as a connection once the service has agreed to switch.
//
// Errors are the gateway's own answers: 503 says that nothing was executed, 502
// that something may have been. Each has a typed reason.
package httpway
