// Package budget holds what both halves of shared budgets do together: the federation's
// split (federation/budget) and the gateways' use of it (gateway/flow), on a simulated
// clock.
package budget
