// Package flow holds the limits of a gateway: how much of each service's calls it lets
// through (policy.Limits), and in which order when not all fit.
//
// A call meets it twice. Admit is asked when the call has been authorized: every rate
// that matches must have room for it. Enter is asked for each attempt, when its cluster
// has been chosen: the breaker of that cluster, and for an endpoint of the own cluster a
// slot of the service, which may take a wait. Both refuse with a Refusal, typed, with a
// time to stay away. Nothing of it says anything of a service's health.
//
// The rules themselves are packages below: bucket, window, gradient, guard, codel, fair,
// breaker. A service without a concurrency in its policy is guarded: it has a limit only
// while it is overloaded. Here they meet policies, tables and metrics. SetTable compiles the limits of a
// table; what was counted stays where a rule's name and counting stay. Lookups are by an
// atomic pointer and read locks; a call that no limit matches costs a map read, and no
// call allocates unless it is the first of its caller or waits.
//
// Budgets of a whole cluster are split between its gateways in shares that the federation
// leases (federation/budget): Demands says what this gateway was asked for, TakeShares
// what it may use. Without an answer the share stays what it was, and at least an even
// part: the budgets of all gateways together then stay below twice the limit.
package flow
