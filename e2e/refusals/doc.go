// Package refusals attacks running clusters: callers and peers with no
// certificate, the wrong one, or the right one and the wrong intent. Each is
// refused with a typed reason that is logged and counted. Besides running processes it
// attacks real gateways in this one, by more than 150 named cases that it counts.
package refusals
