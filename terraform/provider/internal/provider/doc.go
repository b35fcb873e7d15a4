// Package provider is the Terraform provider of a federation.
//
// Resources are made of the rules' own Go types (package policy of the product): each
// JSON field is an attribute of the same name, so that a rule gets its new fields here
// by itself; descriptions.go says what each means, and a test misses those that it
// lacks. All kinds of rules are one resource type with different tables (kinds.go).
//
// A plan asks the federation what it would change for whom (dry_run), and warns of
// callers that would be turned away. A change carries the etag that the plan saw: what
// somebody else has changed since is never overwritten.
package provider
