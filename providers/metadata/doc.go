// Package metadata asks a cloud's metadata server where this machine is: cloud,
// region, zone and instance, over plain HTTP and without any SDK.
//
// AWS is asked by IMDSv2 only (a token first, which a request that was tricked out
// of a proxy cannot get); its zone is the zone's id. Google's server says by a
// header who it is, and a zone. Both listen on the same link-local address; whoever
// answers in its own way is the cloud.
//
// What was found can be kept on disk, so that a machine that is known to be in its
// zone starts there while its metadata server is dead.
//
// Used by cmd/isthmus for `cluster: {locality: auto}`.
package metadata
