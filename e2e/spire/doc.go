// Package spire runs clusters on real SPIRE: two servers and agents of two trust
// domains, federated by https_spiffe, and beside them a cluster on the embedded CA
// that is joined by bundle files and whose gateway has its identity from files. It
// sets them up with the commands of docs/guides/spire.md, and keeps calling while
// SVIDs are renewed, roots rotate and an agent is killed.
package spire
