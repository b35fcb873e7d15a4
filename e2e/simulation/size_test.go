//go:build !race

package simulation_test

const (
	// perRun is how many seeds each run has; more by -seeds.
	perRun = 2000
	// patience is in how many seeds a planted bug must be caught.
	patience = 300
)

// Links are watched for so long in each run.
const (
	watchedHours = 1
	watchedLinks = 20
)
