// Package policy holds the rules that operators write and their pure
// evaluation: exports and imports (what crosses clusters), intentions (who may
// call what) and traffic policies (how a service is balanced).
//
// Ownership keeps policy free of global consensus: exports and intentions
// belong to the cluster that hosts the service, imports and traffic policies to
// the calling cluster. Everything defaults to closed: nothing is exported or
// imported, and no caller of another cluster is allowed, until a rule says so.
//
// # Reading the rules
//
// A Set is one cluster's rules; Set.Validate reports all that is wrong with it
// as catalog.FieldErrors, Set.Canonical puts it in the one order that equal sets
// share. Validated sets are compiled: an Index answers what is exported,
// imported and how it is balanced, an Authorizer who may call.
//
// Exports, imports and traffic policies have one precedence: the most exact
// pattern wins (name.namespace, then *.namespace, then *), between equals the
// rule whose name sorts first. Rules are never mixed field by field.
//
// Intentions have another, since a deny must not be undone by a more exact
// allow: a deny that matches wins, then an allow, then the default. The default
// denies callers of other clusters always, and callers of the own cluster once
// the service has any intention. The rule named in a Verdict is the first by
// name of those that match. Before all of it a peer's gateway may speak only for
// callers that its entry lists (Reason caller_not_asserted); CheckAsserts keeps
// those lists disjoint between peers.
//
// Conditions on HTTP narrow an intention (HTTPCondition); README.md has the whole
// precedence.
//
// Whatever does not parse opens nothing: an unknown action counts as deny, a
// pattern that is not canonical matches nothing, reserved federation services
// are covered by no rule.
//
// The federation validates, stores and serves sets; federation/tables and
// federation/route evaluate them, in gateways too. The package imports
// discovery/catalog only and does no I/O.
package policy
