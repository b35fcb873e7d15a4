// Package spend keeps the account of what calls of a cluster's callers are estimated
// to cost: by service and serving cluster, for the calendar month (UTC), with a
// forecast of its end, and how budgets stand against it.
//
// It is pure: reports of gateways and the time go in, sums come out. Its state is one
// JSON text, with what each gateway had counted when it was heard last, so that neither
// a restart of a gateway nor one of the federation counts anything twice or loses what
// was spent while the federation was away.
package spend
