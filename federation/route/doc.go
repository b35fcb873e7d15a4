// Package route decides where a call goes and can say why.
//
// It is pure: no clock, no I/O, no randomness of its own. Two steps: Compile
// turns a Table (what the federation says) and slow Evidence (what the data
// path saw) into an immutable Plan; Plan.Pick chooses for one request from the
// plan, live counters and a random number, without a lock or an allocation. The
// same code serves the gateway, explain, simulate and the tests.
//
// Candidates are services in clusters (service@cluster), never gateways: the
// failure of one service ejects nothing else behind the same gateway. Tiers of
// candidates are distances, or what a traffic policy says; calls are spread over
// tiers by health, and inside of a tier by the policy's algorithm. README.md has
// the maths with their sources.
//
// A gateway keeps one Plan in an atomic pointer and compiles a new one when the
// table or the evidence changed. What makes evidence of single outcomes is here
// too, pure like the rest: Ejector, Ramp and Distance. A federation compiles the
// same table by a gateway's Report and so explains that gateway's decisions; a
// gateway that kept a Record has Plan.Replay repeat the very decision.
//
// A Plan also answers who may call: AuthorizeInbound at the far gateway,
// AuthorizeOutbound at the near one.
package route
