// Package kubernetes reads the services of a Kubernetes cluster as a source:
// Services and their EndpointSlices, followed by list and watch.
//
// Each kind of object is kept like the API server's own list (kubeapi.Feed): a list
// takes effect whole, an event changes one object. Nothing is published before every
// list has been complete once; afterwards a change costs the service that it is of,
// and what was known stays in force while the API server is away, forbids, throttles
// or breaks off.
//
// What a service is made of is in convert.go, without I/O: ports and what they speak,
// one address of each pod although dual-stack slices list two, conditions as health
// (terminating is maintenance, which drains), zones.
//
// Services that were made for imports (OwnerLabel) are never read: what comes from
// other clusters would otherwise be offered to them as one's own.
//
// Used by cmd/isthmus-source. Package mcs does the other direction, kubeapi speaks to
// the server, kubetest runs a real one for tests.
package kubernetes
