// Package decisions writes the decision log: who was allowed or denied what, by which
// rule of which policy.
//
// Denials are always logged, what is allowed on request. A caller that asks again and
// again must not fill a disk, nor push the lines about others out: what repeats (the
// same caller, service, verdict and rule) is one line per interval, with the count of
// the decisions that it stands for.
package decisions
