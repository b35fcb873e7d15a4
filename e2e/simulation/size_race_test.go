//go:build race

package simulation_test

// A run is one goroutine: there is no race in it to be found. What runs that go on
// side by side share is found by few of them, each of which takes ten times as long.
const (
	perRun   = 40
	patience = 60
)

const (
	watchedHours = 0.1
	watchedLinks = 4
)
