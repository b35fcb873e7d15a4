// Package syncout registers imported services in Consul's catalog, so that
// NAME.service.consul answers with a gateway of the own cluster.
//
// The entries stand on a node of their own that belongs to no agent, so that they
// outlive whoever wrote them: losing the federation changes nothing for callers.
// Each is marked with its owner, the cluster. What is not marked so is never
// touched, and a name that somebody else has registered is left alone and told.
// Sources leave marked entries out, whoever made them, so that an import is never
// exported again.
//
// Of several processes of a cluster one writes: it holds a lock by a session.
// Every write is a transaction that Consul makes only while that session holds the
// lock, so that a writer that was cut off, or stood still, cannot undo what the
// next one did, however late its request arrives.
//
// What is to be written is a pure function of what is wanted, what is there and
// what others have (plan.go).
package syncout
