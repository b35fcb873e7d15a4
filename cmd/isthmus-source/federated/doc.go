// Package federated is the own cluster's federation as kubernetes-sync sees it: mcs.Federation
// over the REST API. Services, exports, gateways and peers are followed by watches;
// while one of them is broken nothing is concluded from the others.
//
// Whose an export is says the federation's memory of applied sets, under the name of the
// owner: what is not in it is not replaced and not deleted. A claim is pending from before
// an export is made until it is there, and while it is removed: after a crash only an export
// that is like the claim is ours then, since anybody may have taken the name.
package federated
