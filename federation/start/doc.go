// Package start decides when a federation that starts may speak: to its gateways, which
// keep the table they have until then, and to peers, which keep what they were told.
//
// What is said too early withdraws what is only not known yet: the endpoints of a
// source that has not been read, the offers of a peer that has not been heard, the
// gateways that have not reported. So a start waits for what there was before it, for
// each a bounded time. What there never was is not waited for: the first start of a
// cluster is not slower for it.
//
// It is pure: the time and what is there are arguments. Package federation asks it in
// its rounds, and the simulation of the control layer does.
package start
