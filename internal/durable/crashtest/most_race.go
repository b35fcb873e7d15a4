//go:build race

package crashtest

// most is how many bytes of one file are flipped: the race detector looks at the
// same code each time.
const most = 60
