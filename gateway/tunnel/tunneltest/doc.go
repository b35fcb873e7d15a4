// Package tunneltest stands up gateways' tunnel nodes for tests: real QUIC, real
// TLS and real SVIDs, on a simulated packet network whose delay, jitter, loss and
// cuts a test sets, or on UDP sockets of the loopback interface.
//
// On the simulated network use it inside a testing/synctest bubble: hours pass in
// milliseconds, and round trips are counted exactly, since computing takes no time
// on the fake clock. Stop every gateway and close the network before the bubble
// ends ([Mesh.Close] does both and is registered by [New]).
package tunneltest
