// Package tcpway is the way in for bytes of any protocol: one listener per
// service, every connection a stream.
//
// It looks at no byte. It takes the first ones that have arrived already, to send
// them in the same flight as the stream's header, and never waits for any, so
// that protocols whose server speaks first (SSH, SMTP, MySQL) work.
//
// Who connects is given the listener's caller identity. A connection that has
// nowhere to go is reset, and the log says why.
package tcpway
