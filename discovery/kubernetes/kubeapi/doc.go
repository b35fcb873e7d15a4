// Package kubeapi speaks to a Kubernetes API server: who it is and how it is
// believed (Connection), and lists that follow it (Feed).
//
// A Feed is a client-go reflector with an account of itself: what it holds is
// replaced whole by a complete list or changed by single events, never by half a
// list, and it tells when it last heard of the server and what went wrong since.
// Lists are consistent reads, so that a server that lags cannot take a cluster back
// in time.
//
// Nothing is read from the environment and no file that the configuration does
// not name. A token file is read anew for every request.
//
// Used by discovery/kubernetes and discovery/kubernetes/mcs.
package kubeapi
