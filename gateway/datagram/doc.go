// Package datagram takes a flow to a service: the UDP datagrams between one address of a
// caller and one endpoint. It is used at both ends: by the way in, whose flows go over a link
// or to an endpoint of the own cluster, and by the far end, whose flows go to endpoints only.
//
// A flow is opened as a connection is (package attempt): judged, limited, chosen, tried. UDP
// has no connection that could be refused, so what the first datagrams meet takes that
// place: until somebody answers they are kept, few and for a short time, and a refusal (of a
// far gateway, or ICMP's of an endpoint) has them sent to the next choice. After the first
// answer a flow stays where it is, and ends with its endpoint or its link; the next datagram
// of the caller is another flow.
//
// Nothing is queued here, and nothing is sent twice that may have arrived, but for what is
// kept: the datagrams before the one that ICMP answered may have been read by an endpoint
// that died behind them.
package datagram
