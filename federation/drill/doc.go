// Package drill works out what drills are about: what an order means (Order), what is
// predicted of it (Predict, by package simulate), and how that compares with what gateways
// count (Compare). It is pure; package federation runs drills.
package drill
