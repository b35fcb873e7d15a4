// Package window is a sliding window: at most so many calls in the last so long, judged
// by the moving average of two fixed windows.
//
// The calls of the last width are estimated as those of the window that is under way
// plus the part of those of the one before that the sliding window still covers, as if
// they had come evenly:
//
//	estimate = previous * (1 - elapsed/width) + current
//
// A call passes while estimate + 1 is at most the limit. Two counters say what a log of
// every call would need the memory of all of them for. The price: in a span of one width
// the calls may be up to twice the limit where they came in bursts at the wrong moments,
// never more; in any fixed window they are at most the limit, and over time the rate is
// limit/width. A token bucket (package bucket) bounds the burst as well.
//
// Times are Unix nanoseconds and arguments. Windows begin at multiples of the width, so
// that the gateways of a cluster agree on them.
package window
