// Package udpway is the way in for UDP: one socket per service, or per virtual address, and
// every address that sends to it a flow.
//
// Who sends is given the listener's caller identity, and each flow is judged, limited and
// routed as a connection is. A flow ends when nothing has moved for a while, with its endpoint
// or with its link; what its caller sends then is another flow. One that is refused is
// remembered for a second, in which what comes is dropped: UDP has nobody who would hear no.
//
// Everything is bounded: flows, flows of one source address, datagrams and bytes that wait.
// Where there is no room, the datagram that came last is dropped, as sockets do, and a
// listener that is full ends the quietest of some flows to make room.
package udpway
