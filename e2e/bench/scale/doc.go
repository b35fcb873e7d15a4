// Command scale measures one federation service at the size that the design
// names: 200 peers, 10,000 services of which each is exported by 20 clusters,
// and 1,000,000 own endpoints, with gateways that follow its table.
//
// The service under test is the real one (package federation): its sources are
// discovery.Sources, its peers are reached by CONNECT through gateways and speak
// the real exchange over mTLS, and gateways follow the mesh protocol by the real
// client. What surrounds it (peers' federations, their listeners, gateways) is
// the world, a process of its own, so that the time and the memory that are
// measured are the service's alone. In its tests, which run at a small size, the
// world is a goroutine.
//
//	go run ./e2e/bench/scale                 1, 10 and 100 % of the size
//	go run ./e2e/bench/scale -shares 1,10    only those
//	go run ./e2e/bench/scale -help           every parameter
//
// Each size is a run of its own, in fresh processes: start to first sync, rest,
// changes at a steady rate (every other one an endpoint of a source, every other
// one a row of a peer), then the next. Absolute figures are those of the machine;
// the ratio between sizes is what the service is held to.
package main
