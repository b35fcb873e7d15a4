// Package cloudmap reads AWS Cloud Map: the instances of the services of some
// namespaces.
//
// The revision of each service's list of instances is polled; it is cheap, and
// tells of registrations and deregistrations. It says nothing of health, so that
// every full read asks for the instances themselves. An answer whose revision is
// below the one that is known is of a server that lags, and is not believed before
// the third in a row.
package cloudmap
