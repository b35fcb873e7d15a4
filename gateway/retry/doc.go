// Package retry decides whether a call may be tried again. There is one retry
// layer in a gateway and this is its one predicate:
//
//   - What was certainly not delivered (a typed refusal, a connection that was
//     never made, a link that took nothing) may be replayed to the next choice.
//   - What may have been delivered is replayed only if it is idempotent HTTP and
//     no byte of an answer has been handed on.
//   - A denial, the caller's own end and its deadline are final.
//
// A Budget keeps retries from becoming the load that breaks the rest: at any
// moment the retries of the last 10 s are at most 0.2 of its calls plus 3. Delays
// have full jitter. Classify also says whom a failure speaks of (route.Outcome),
// so that a dead link ejects no service.
//
// The package holds no clock: time is handed in.
package retry
