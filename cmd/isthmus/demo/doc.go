// Package demo stands a whole federation up on one machine: three clusters in
// two trust domains, each process its own, with a simulated distance between
// the clusters, and shows what calls do when parts of it die.
//
// Plan is the pure part: which processes there are, on which ports, with which
// files. Supervisor starts them and starts a killed one again when asked;
// nothing is restarted by itself. State is what demo.json says.
package demo
