// Package bucket is a token bucket: a steady rate with a burst.
//
// It is kept as the generic cell rate algorithm (ITU-T I.371, annex A), which is the
// same bucket without a refill: one number, the theoretical arrival time of the next
// call. A call at t conforms if that time is at most the tolerance, (burst-1) intervals,
// after t; it then moves an interval further. In any span d at most burst + rate*d calls
// conform, and a caller that keeps to that is never refused.
//
// Times are Unix nanoseconds and arguments. An interval is rounded up to a whole
// nanosecond, so the rate is never above what was asked, and at most 0.1 % below it at a
// million calls a second. A clock that goes back refuses until it is where it was.
//
// A Limit is an argument of each call, so that a share that changes (package share)
// applies at once, and what was borrowed stays borrowed.
package bucket
