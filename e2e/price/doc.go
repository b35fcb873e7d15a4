// Package price tries prices and budgets on real processes.
package price
