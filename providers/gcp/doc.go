// Package gcp reads Google Cloud as a source: instances by label, managed
// instance groups, network endpoint groups and Service Directory, of several
// projects.
//
// One round reads everything by lists, page by page. What a list says of a zone
// or region that it could not reach is not "there is nothing": the last known of
// exactly that scope stays, the others are news. The same holds for a list that
// fails as a whole, for a group's members and for a namespace. Until each of them
// was read once, nothing is published.
//
// How it maps:
//
//   - instances by label: the label's value is the service's name; ports come
//     from another label or from the configuration; health is the instance's
//     status, which is no health check: unknown while it runs.
//   - managed instance groups: the members' addresses come from the list of
//     instances; health is the group's health check and what the group is doing
//     with the member.
//   - network endpoint groups: zonal and regional ones, with the health that load
//     balancers see.
//   - Service Directory: its services and endpoints, by ListEndpoints, since
//     ResolveService gives at most 100; it knows no health.
//
// It needs the permissions of iam-role.yaml, all of them to list and read.
//
// Used by cmd/isthmus-source as "gcp"; gcptest is a stand-in for the cloud whose
// requests and answers are checked against the published discovery documents.
package gcp
