// Package wan puts a wide-area network between processes of one machine: a
// user-space UDP relay that holds every datagram for the one-way delay between
// two places. It needs no privilege and runs on every platform, so that the
// demo and the scenarios have a distance between clusters.
//
// Datagrams of one direction keep their order, none is lost unless the bounded
// queue of that direction is full, or the direction is cut.
package wan
