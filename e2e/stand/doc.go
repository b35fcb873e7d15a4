// Package stand runs real isthmus processes for the scenarios: embedded CAs,
// federations and gateways with the configuration files that an operator would
// write, on loopback, each process its own and each to be killed, stopped and
// started again. It also measures: Load calls a service at a steady rate and
// says what the caller saw.
package stand
