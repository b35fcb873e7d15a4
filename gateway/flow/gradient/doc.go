// Package gradient finds out how many requests a service can have in progress before
// they wait for each other: adaptive concurrency.
//
// The law is that of Envoy's adaptive concurrency filter. Over a short window the median
// of the answers' latencies is compared with what a request takes that waits for nobody:
//
//	gradient = (unloaded * (1 + Buffer)) / median, within 0.5 and 2
//	limit'   = gradient * limit + sqrt(limit)
//
// A median within Buffer of the unloaded one lets the limit grow, the square root keeps
// a little queue so that growth can be tried; a median above it shrinks the limit in
// proportion. A service of c workers settles where limit = (1+Buffer)*c + sqrt(limit).
//
// Four things differ from Envoy's filter. A window moves the limit a third of the way.
// The limit moves only while callers use at least half of it: an idle service proves
// nothing, and a limit that grew then would let the next overload in whole. What an
// unloaded request takes is read off windows in which few were in progress, as they come;
// only where there was none for Period, the limit is cut to a third for the hundred
// answers that a measurement needs, instead of to a fixed 3: those that do not fit wait in
// the queue, and are not refused. And the limit is never below Floor, so that a
// measurement or a slow answer of an idle service refuses nobody.
//
// Times are Unix nanoseconds and arguments; latencies are the answers' without the wait
// for a slot. Nothing is allocated after New. A Controller is for one goroutine at a
// time.
package gradient
