// Package rotation runs two clusters of two trust domains whose CAs issue
// certificates of seconds and replace their roots, under calls, byte streams and
// handshakes that never pause: nothing fails and nothing is cut.
package rotation
