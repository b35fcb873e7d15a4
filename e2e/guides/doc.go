// Package guides runs the pages of docs/guides that no other scenario runs, from the
// first command to the last, on real parts: two Consul datacenters joined, Kubernetes
// joined to virtual machines, a service moved and a region's death rehearsed under load.
package guides
