// Package consulmesh joins the service meshes of two real Consul datacenters: calls
// leave through a real `consul connect proxy` and arrive at another, in front of a
// service that nothing else reaches, with two gateways in between. It runs the
// commands of docs/guides/consul-mesh.md.
package consulmesh
