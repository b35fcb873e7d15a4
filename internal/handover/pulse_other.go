//go:build !linux

package handover

import (
	"encoding/json"
	"os"
)

// Pulse is not there: no process has a successor.
type Pulse struct{}

// NewPulse fails.
func NewPulse() (*Pulse, error) { return nil, ErrUnsupported }

// Far is nothing.
func (*Pulse) Far() *os.File { return nil }

// Close does nothing.
func (*Pulse) Close() {}

// Say does nothing.
func (*Pulse) Say(any) {}

// Listen reports an end.
func Listen(*os.File, <-chan struct{}, func(json.RawMessage)) bool { return true }
