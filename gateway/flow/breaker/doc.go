// Package breaker bounds how much is under way to one service in one cluster: open
// connections, requests, and those of both that have had no answer yet. The names and
// the defaults' order of magnitude are Envoy's circuit breakers (1024 each); unlike
// there, 0 is no bound. What consecutive failures do is the ejector's (federation/route).
//
// Beyond a bound a call is refused at once and may go to another cluster. Counting costs
// two atomic additions; it is safe for concurrent use.
package breaker
