// Package authority reads the name that a caller asks the HTTP way in for. It is
// the only parser of authorities in a gateway, so that routing and authorization
// can never disagree about what was asked.
//
// The forms, each with an optional ":port" of digits (that of the listener,
// which says nothing about the service) and an optional final dot:
//
//	name.namespace                          the service
//	name.namespace.mesh                     the same
//	name.namespace.CLUSTER.mesh             the service in that cluster, without failover
//	name.namespace.svc[...]         the same, as Kubernetes' DNS calls imports:
//	                                alone, or with .cluster.local or .clusterset.local
//	_port.name.namespace[...]               the same with a named port
//
// The port comes as in a DNS SRV name (RFC 2782): no label of a service can
// start with "_", so the forms cannot be confused, and the authority stays valid
// in URLs, which a name after the colon would not.
//
// ASCII upper case is folded, one final dot is removed, nothing else is
// normalised: what is not canonical then is refused, not repaired.
package authority
