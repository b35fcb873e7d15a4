// Package dnsway is the way in by name: a DNS server that answers for the names of
// the mesh with virtual addresses (package virtual), on which it listens for the
// ports of the service. An application needs nothing but a resolver.
//
//	web.shop.mesh                    the service, wherever routing sends a call
//	web.shop.gcp-us-central1.mesh    the service in that cluster, nowhere else
//	_http._tcp.web.shop.mesh         SRV: the number of the port named http
//	4.3.77.127.in-addr.arpa          PTR: whose virtual address that is
//
// What the listener's caller may not call does not exist here. Numbers of ports are
// those of package ports.
//
// Answers over UDP fit the size that the asker has named, at most 1232 bytes, else
// they say that they were cut. The question's letters come back as they were written
// (0x20). Other names are forwarded where resolvers are configured and refused where
// none are. Each source has a rate; beyond it, every other query over UDP is answered by
// "ask by TCP", which a forged source cannot do.
package dnsway
