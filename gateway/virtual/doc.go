// Package virtual gives services addresses of a range that no machine has, and
// listens on them, so that an application reaches a service of the mesh by nothing
// but a name that a resolver turns into such an address.
//
// A [Book] keeps which service has which address. The first choice follows from the
// service's name, so that gateways that never met agree on it; where two services
// want the same one, the later takes the next that is free. What was given away is
// on disk before anybody is told, since applications keep addresses for as long as
// they run. The address of a service that is gone goes to another only when the
// range has no other left and the service has not been seen for a long time.
//
// A [Hub] is the listener of all of them: a socket for each address and port, bound
// to just that, so that it takes nothing from other servers of the host. Which
// service a connection is for follows from the address that it came in on.
//
// On Linux a whole range becomes the host's own by one route (AnyIP); Own looks for
// it and adds it where it may. The range 127.0.0.0/8 needs none.
package virtual
