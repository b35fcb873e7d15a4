// Package endpoint connects to the endpoints of the own cluster: raw for streams,
// pooled for HTTP requests.
//
// Ports of protocol grpc are spoken to in HTTP/2 without TLS, ports of protocol
// http in HTTP/1.1, or in HTTP/2 if the request is gRPC. Pools are kept per
// address; they are the far gateway's own, so that a caller's long-lived
// connection never pins its requests to one endpoint.
//
// A connection that could not be made is a *retry.ConnectError: nothing was
// delivered. Any other error of RoundTrip leaves that open.
//
// Endpoints that are the gateway's own listeners are refused: a catalog that
// lists one would send a request round in circles.
//
// The ways in use it for the own cluster's endpoints, origin for what peers ask.
package endpoint
