//go:build !linux

package crashtest

import "testing"

// disk is tested on Linux; the same failures were injected at each step above.
func (c Case) disk(t *testing.T) { t.Skip("small file systems are mounted on Linux only") }
