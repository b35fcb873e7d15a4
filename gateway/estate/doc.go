// Package estate is what a process of a gateway holds open, as far as a process after
// it is to have it: its TCP listeners, its DNS socket, its place among the sockets of
// the link port (package generation), and what it knows of the processes before it
// that still finish their streams.
//
// An [Estate] is [New] or inherited ([Inherit]). What is opened through it is handed on
// by [Estate.Offer]; the successor asks for it by the same network and address, as its
// own configuration has them, and opens what it was not handed. A listener is never
// rebound, so none of its connections that wait to be accepted is lost.
//
// The order of a change, whose steps are package gateway's:
//
//  1. Offer opens the successor's link socket. The kernel is told to let through what
//     answers the successor's own dialing; all else comes here as before.
//  2. The successor is ready: PassOn sends new connections to it.
//  3. It does not serve after all: TakeBack undoes that.
package estate
