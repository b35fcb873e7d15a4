// Package explain holds what is said of calls against the calls themselves, on real
// processes: a real call is explained with who really answered it, every kept
// decision repeats exactly while evidence changes, and what a simulation foretells of a
// death is what the death does. As a benchmark, with as many calls as are wanted:
//
//	go test ./e2e/explain -run TestRealCalls -v -calls 10000
package explain
