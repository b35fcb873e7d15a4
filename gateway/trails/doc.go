// Package trails keeps what explains real calls: of each call that failed, was tried
// again or was slow, of each whose caller traces it, and of a share of the rest, the
// attempts with the decisions that they were made by. A call is found by its trace
// ID or its request ID.
//
// What is kept is small and is worked out late: a decision's record and the plan of
// its one service (route.Plan.Of); the ledger is made when somebody asks, by
// repeating the decision. A call that is not kept costs a few comparisons.
//
// Everything is bounded: trails of each kind by number, so that failures do not push
// out what is sampled; the plans that they hold alive by bytes; and the rate at which
// trails are kept, so that a flood leaves more than the last moment of itself. What
// was left out is counted.
package trails
