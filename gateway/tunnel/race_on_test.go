//go:build race

package tunnel_test

// raceEnabled: the race detector makes everything ten times slower.
const raceEnabled = true
