// Package federation is the control plane of one cluster, assembled: it runs the
// cluster's sources, merges what they say with what peers export to it, hands
// its gateways a route table, tells peers what they may know, and answers people
// and programs over REST.
//
// A Federation is built by New from a validated Config and runs until its
// context ends. It speaks on three doors and no other:
//
//   - the REST API (package federation/api) on a Unix socket and on loopback TCP;
//   - the mesh listener (package federation/mesh), mTLS, for the gateways of its
//     own cluster and for the federations of its peers, each known by its SPIFFE ID;
//   - the control listeners of its own gateways, which it dials to reach its
//     peers: everything between clusters travels inside the gateways' links.
//
// Contracts:
//
//   - No cluster is primary. Losing a federation, or all of them, changes nothing
//     for traffic that flows: gateways keep the last table that they were given.
//   - Last good data is never replaced by partial, older or empty data: sources
//     and peers are kept on disk and loaded before anything is asked of anyone.
//   - Each table carries (epoch, version). The epoch is kept in the store and is
//     one higher at every start, so that no older table is ever applied.
//   - A peer that leaves the configuration is cut at once, on both sides of its
//     exchange and in the next table.
//
// The command wires it; tests run several in one process. It never imports
// package gateway: the two meet over mTLS, also where one process plays both.
package federation
