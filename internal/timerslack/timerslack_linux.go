package timerslack

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Slack is what timers of a process may be late by after Lengthen. Longer ones
	// save little more, and keep a blocked system call's processor from others.
	Slack = 2 * time.Millisecond
	// kernelDefault is what a process has that nobody has given another one:
	// systemd's TimerSlackNSec, or we.
	kernelDefault = 50 * time.Microsecond
	// guard is in the environment of what Lengthen starts: where a sandbox only
	// pretends to keep the slack, it would start itself for ever.
	guard = "ISTHMUS_TIMER_SLACK"
)

// Lengthen starts the process anew with Slack, in its own place: it does not return
// then. It is called before anything is opened. It returns nil where that was done
// before, or where somebody has chosen the slack, and an error where it cannot be
// had; the process can go on in either case.
func Lengthen() error {
	if _, done := os.LookupEnv(guard); done {
		return os.Unsetenv(guard) // which is for nobody that this process starts
	}
	runtime.LockOSThread() // the slack is a thread's, until it is the process's
	defer runtime.UnlockOSThread()
	have, err := Get()
	if err != nil || have != kernelDefault {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if err := set(Slack); err != nil {
		return err
	}
	err = unix.Exec(self, os.Args, append(os.Environ(), guard+"=lengthened"))
	_ = set(have) // what was had a moment ago
	return fmt.Errorf("timer slack: start %s anew: %w", self, err)
}

// Get is the slack of the calling thread.
func Get() (time.Duration, error) {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("timer slack: %w", err)
	}
	return time.Duration(n), nil
}

func set(d time.Duration) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d), 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	return nil
}
