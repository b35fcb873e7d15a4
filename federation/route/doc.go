// Package route decides where a call goes and can say why.
//
// It is pure: no clock, no I/O, no randomness of its own. Two steps: Compile
// turns a Table (what the federation says) and slow Evidence (what the data
// path saw) into an immutable Plan; Plan.Pick chooses for one request from the
// plan, live counters and a random number, without allocating. The same code
// serves the gateway, explain, simulate and the tests.
//
// Candidates are services in clusters (service@cluster), never gateways: the
// failure of one service ejects nothing else behind the same gateway.
package route
