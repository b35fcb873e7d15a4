//go:build !race

package gateway_test

// raceEnabled: the race detector makes everything ten times slower.
const raceEnabled = false
