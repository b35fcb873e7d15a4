// Package discoverytest holds the contract test of discovery.Source: every
// source runs it, against its real backend or a faithful fake of it.
//
// A source's test says how its backend is filled and broken (Backend); the
// contract's clauses are here, once:
//
//	func TestContract(t *testing.T) {
//		discoverytest.Source(t, func(t *testing.T) discoverytest.Backend { ... })
//	}
package discoverytest
