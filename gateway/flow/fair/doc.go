// Package fair shares the slots of a service among those who send to it, so that one of
// them cannot starve the others, and queues what does not fit.
//
// A Gate has a limit of requests in progress. What comes beyond it waits, each sender in
// a queue of its own, first come first served. Three rules make it fair:
//
//   - A free slot goes to the sender that waits and has the fewest in progress. Slots are
//     shared, not turns: a sender whose requests take ten times as long gets as many
//     slots as the others, not ten times as many.
//   - Nobody takes a slot that another sender used lately and may use again. What is kept
//     for a sender is a quarter more than the most that it had in progress (forgotten
//     with a time constant of PeakDecay), at most its equal part of the limit. So a
//     sender whose requests hang gets what the others leave, and they keep what they had.
//     A part of the limit (1/NewcomerShare) is kept for senders that come anew.
//   - The queue has one length for all. When it is full, the longest queue gives up its
//     newest request, and a sender that has the longest queue itself is refused.
//
// Each sender's queue is watched by package codel, as in RFC 8290 (flow queue, controlled
// delay). A request that could not be answered before its deadline is refused at once:
// when it comes, and as soon as it has waited too long; nobody waits longer than the
// interval of codel.
//
// Senders are names; "" is the own cluster. A request that gets a slot without a wait
// costs a mutex and two map reads, and allocates nothing.
package fair
