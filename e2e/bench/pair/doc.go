// Command pair measures the data plane of a pair of Isthmus gateways against what people
// use today, as ratios in one interleaved run: no proxy at all (direct), and pairs of
// haproxy and of nginx that carry TCP with mTLS between the two.
//
//	go run ./e2e/bench/pair                         every peer and workload, 5 rounds
//	go run ./e2e/bench/pair -peers isthmus,haproxy -workloads w2 -rounds 9
//	go run ./e2e/bench/pair -help                   every parameter
//
// Every pair is real processes, on loopback or with a link of 40 ms between them: the load, the service and all proxies share
// the machine. In each round each workload is run through each peer in turn, beginning
// with another one each time, so that what else the machine does strikes all alike. A
// ratio is of two figures of one round; what is reported is the median of the rounds'
// ratios, with the least and the greatest. Absolute figures are those of the machine.
//
// docs/performance.md says what the workloads are and what came out.
package main
