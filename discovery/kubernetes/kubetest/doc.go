// Package kubetest runs a real Kubernetes control plane for tests: etcd and
// kube-apiserver with RBAC on loopback, no nodes and no controllers, so that a test
// writes Services and EndpointSlices itself. It is to be killed and started again.
//
// A Proxy in front of the API server makes faults that a healthy one does not show:
// refusals, throttling, lists that are cut in the middle.
package kubetest
