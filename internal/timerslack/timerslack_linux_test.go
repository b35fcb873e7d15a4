package timerslack_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/timerslack"
	"golang.org/x/sys/unix"
)

// role makes this test's program the process under test.
const role = "TIMERSLACK_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		os.Exit(m.Run()) //nolint:forbidigo // the main of the tests
	}
	err := timerslack.Lengthen()
	fmt.Println(os.Getpid(), err, len(os.Args), os.Getenv("ISTHMUS_TIMER_SLACK"))
	slack, err := timerslack.Get()
	fmt.Println(slack, err)
}

// start runs the program, by a thread of the given slack, and returns its lines.
func start(t *testing.T, slack time.Duration) (pid int, lines []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "one", "two words")
	c.Env = append(os.Environ(), role+"=process")
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	done := make(chan error)
	go func() { // the thread ends with the goroutine, and its slack with it
		if err := lockAndSet(slack); err != nil {
			done <- err
			return
		}
		done <- c.Run()
	}()
	if err := <-done; err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return c.Process.Pid, strings.Split(strings.TrimSpace(out.String()), "\n")
}

func TestAProcessStartsItselfAnewOnce(t *testing.T) {
	before, err := timerslack.Get()
	if err != nil {
		t.Fatal(err)
	}
	pid, lines := start(t, 50*time.Microsecond)
	if want := fmt.Sprintf("%d <nil> 3 ", pid); lines[0] != want {
		t.Errorf("the process says %q, want %q", lines[0], want)
	}
	if want := timerslack.Slack.String() + " <nil>"; lines[1] != want {
		t.Errorf("slack %q, want %q", lines[1], want)
	}
	if after, err := timerslack.Get(); err != nil || after != before {
		t.Errorf("the slack of the test is %v, was %v: %v", after, before, err)
	}
}

func TestASlackThatSomebodyHasChosenStays(t *testing.T) {
	if _, lines := start(t, 7*time.Millisecond); lines[1] != "7ms <nil>" {
		t.Errorf("slack %q, want what was given", lines[1])
	}
}

func lockAndSet(slack time.Duration) error {
	runtime.LockOSThread() // and never unlocks
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
}
