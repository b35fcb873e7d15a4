// Package guard watches a service for which no policy sets a limit, and limits it only
// while it is overloaded: the default that keeps an overload from outliving its cause.
//
// A limit that is always there needs a figure, and the wrong one throttles what is slow by
// nature: long polls, watches, reports. So a Guard lets everything through and learns what
// is usual: the median latency of answers, how many requests await their answer at once,
// and what share of them callers give up. It takes four witnesses to call a service
// overloaded, all in one window:
//
//   - wasted: a tenth more than usual of the requests were given up by their callers, late;
//   - slow: the median is Slow times the usual one or more;
//   - crowded: more than Crowd times as many wait as usual;
//   - limits helped before, or have not been tried lately (Backoff).
//
// A service whose callers are patient, one that is slow by nature, a burst that is worked
// off in time and a caller that has gone away with all its requests lack one of them.
//
// Then it holds a limit, at first what Little's law says of the time before: the highest
// rate of answers times the usual latency; never below what was usual in health. From there
// the gradient law of package gradient moves it, except that what is usual is not measured
// anew: a service that still works on what nobody waits for answers late however few it is
// given. The hold ends when nothing has met the limit for Quiet. One that changes nothing,
// since the requests are slow for another reason, is given up after Patience, and not tried
// again for a while that doubles each time.
//
// Times are Unix nanoseconds and arguments. Nothing is allocated after New. A Guard is for
// one goroutine at a time.
package guard
