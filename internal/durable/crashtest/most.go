//go:build !race

package crashtest

// most is how many bytes of one file are flipped.
const most = 400
