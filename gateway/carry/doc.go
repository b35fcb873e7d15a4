// Package carry takes an accepted connection to a service and accounts for it: what
// every way in does that carries bytes of any protocol, once it knows where the
// connection goes and who calls. A Loop is the part before: accepting, and draining.
package carry
