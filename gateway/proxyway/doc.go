// Package proxyway is the way in for clients that know no mesh and can use a proxy: HTTP
// CONNECT (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928) on one listener, told apart by
// the first byte. The name that a client asks for is one of the mesh, or a virtual address
// of the DNS way; nothing else is reached, so it is no open proxy.
//
// Who connects is who the listener says, or, where users are configured, who its user is
// (RFC 1929, and Basic of RFC 9110): one listener then gives several identities.
//
// The client hears that it is connected once an instance has taken the connection, and
// else why not, in its protocol's own words. Heads are read by the letter: what could be
// read in two ways is refused, and the connection ends with the refusal, so that nothing
// that was sent behind it is taken for anything.
package proxyway
