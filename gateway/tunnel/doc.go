// Package tunnel joins gateways by links: authenticated QUIC connections that
// carry streams, HTTP/3 requests, probes and control frames.
package tunnel
