// Package accept takes connections in for every listener of a gateway, within
// bounds.
//
// Slots bound how many are open, per listener and in the process. A Listener
// reserves a slot before it accepts, so that the bound cannot be passed between
// the two. When none is free it still accepts, and resets the connection at
// once with the reason "overloaded": a caller that is refused fast goes
// elsewhere, one that waits in the kernel's queue does not know why. It also
// resets who is not in the listener's source ranges, since a listener gives its
// callers an identity. Out of file descriptors, it backs off as net/http does.
//
// The TCP ways, the HTTP way, the control listener and the admin listener use it.
package accept
