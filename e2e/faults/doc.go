// Package faults breaks real isthmus processes under the load of real HTTP
// clients in the ways that leave no trace: datagrams that vanish in both
// directions or in one, processes that stop running and keep their sockets,
// endpoints that answer 503 or break connections, a gateway that is held up.
// What dies and says so is in e2e/demo; the same faults are tried hundreds of
// times on the simulated clock in e2e/survive.
//
// Paths are cut twice: by a relay in the test process, everywhere, and by the
// kernel's packet filter in a network namespace of their own, where the machine
// lets one be made.
//
// Counts are asserted; times are printed as figures, and only a gross miss
// fails, since the machine is shared. To see one of them:
//
//	go test -v -run TestPathsByRelay ./e2e/faults
package faults
