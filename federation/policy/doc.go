// Package policy holds the rules that operators write and their pure
// evaluation: exports and imports (what crosses clusters), intentions (who may
// call what) and traffic policies (how a service is balanced).
//
// Ownership keeps policy free of global consensus: exports and intentions
// belong to the cluster that hosts the service, imports and traffic policies to
// the calling cluster. Everything defaults to closed: nothing is exported or
// imported, and no caller of another cluster is allowed, until a rule says so.
package policy
