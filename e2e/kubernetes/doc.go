// Package kubernetes runs two clusters that are two real Kubernetes control planes: their
// services are read by isthmus-source kubernetes, and joined by kubernetes-sync, by
// ServiceExport and ServiceImport. It follows calls while pods stop being ready, API
// servers die and come back, and exports are taken away.
//
// Pods are HTTP servers of the test, kube-proxy is the test itself: it calls by what the
// ServiceImport's EndpointSlices say. Both are reached by an address of this machine
// that is not loopback, since EndpointSlices take no other.
package kubernetes
