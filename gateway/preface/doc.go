// Package preface reads what a balancer says in front of a connection of whom it is: the
// PROXY protocol, version 2, and version 1 where it is allowed. Only balancers that are
// listed are believed, and those must say it.
package preface
