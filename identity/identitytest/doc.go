// Package identitytest makes identities for the tests of other packages: a CA of
// a trust domain that lives in memory, certificates good and bad, and a real
// Workload API server whose answers a test sets.
//
// Everything is valid from 1990 to 2100, so that it works under the fake clock of
// testing/synctest (which starts in 2000) and under the real one. Functions panic
// instead of returning errors: they are called with constants.
package identitytest
