package crashtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// The states that a Case goes through.
const (
	Before = "before"
	After  = "after"
	Later  = "later"
)

// Case is one write point.
type Case struct {
	Point durable.Point
	// Write opens what is in dir, as the process does when it starts, puts a state in
	// place and closes it. nil means that the state was acknowledged.
	Write func(t testing.TB, dir, state string) error
	// Read opens it as a start does and returns the state in force. said is what an
	// operator is told of damage, "" where all is well.
	Read func(t testing.TB, dir string) (state, said string, err error)
	// Initial says that there may be no state at all before the first write is
	// acknowledged: Read returns "" for it. The first write is then crashed, too.
	Initial bool
	// Once is for what is made once, and never written over: see Kills.
	Once bool
	// Remade is for what is written anew at every start: a flipped byte lasts until
	// then.
	Remade bool
	// TornSaid is for logs: what a crash has cut off is taken away, and told.
	TornSaid bool
	// Times is how often the state of before is written, where old files are removed
	// at some point; 0 means once.
	Times int
	// Stride is the distance of bytes that are flipped, 0: chosen by size.
	Stride int
}

// child tells a process of this test what to do: the step to end at, and where.
const (
	childStep = "ISTHMUS_CRASH_STEP"
	childDir  = "ISTHMUS_CRASH_DIR"
	childWhat = "ISTHMUS_CRASH_STATE"
	// childPoint tells the cases of one test apart.
	childPoint = "ISTHMUS_CRASH_POINT"
	ackWord    = "acknowledged"
)

// maxSteps is more than any write takes.
const maxSteps = 200

// Run tests the case. It is the whole of a test, since that runs again in children.
func Run(t *testing.T, c Case) {
	t.Helper()
	if dir := os.Getenv(childDir); dir != "" {
		c.child(t, dir)
		return
	}
	if c.Initial {
		t.Run("kill at each step of the first write", func(t *testing.T) { c.kills(t, "", Before) })
	}
	t.Run("kill at each step", func(t *testing.T) { c.kills(t, Before, After) })
	for _, why := range []error{syscall.ENOSPC, syscall.EROFS} {
		t.Run("each step fails: "+why.Error(), func(t *testing.T) { c.failures(t, why) })
	}
	t.Run("real disk, full and read-only", func(t *testing.T) { c.disk(t) })
	t.Run("one flipped byte", func(t *testing.T) { c.flips(t) })
}

// Kills runs only that part of the case which ends processes: of a Once of the
// first write, after which Read must return After.
func Kills(t *testing.T, c Case) {
	t.Helper()
	if dir := os.Getenv(childDir); dir != "" {
		if os.Getenv(childPoint) == string(c.Point) {
			c.child(t, dir)
		}
		return
	}
	old := Before
	if c.Once {
		old = ""
	}
	t.Run(string(c.Point), func(t *testing.T) { c.kills(t, old, After) })
}

// child writes, and ends itself before a step.
func (c Case) child(t *testing.T, dir string) {
	t.Helper()
	end, err := strconv.Atoi(os.Getenv(childStep))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	defer durable.Watch(func(s durable.Step) error {
		if s.Point != c.Point {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n == end {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it may take a moment
		}
		return nil
	})()
	if err := c.Write(t, dir, os.Getenv(childWhat)); err != nil {
		t.Fatal(err)
	}
	fmt.Println(ackWord)
}

// kills ends a process before every step of a write, and after the last.
func (c Case) kills(t *testing.T, old, next string) {
	killed, olds, steps := 0, 0, c.steps(t, old, next)
	t.Logf("steps: %s", strings.Join(steps, ", "))
	for k := 1; k <= len(steps)+1; k++ {
		dir := t.TempDir()
		c.prepare(t, dir, old)
		name, _, _ := strings.Cut(t.Name(), "/")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childWhat+"="+next, childStep+"="+strconv.Itoa(k), childPoint+"="+string(c.Point))
		out, err := cmd.CombinedOutput()
		acked := strings.Contains(string(out), ackWord)
		at := "the end"
		if k <= len(steps) {
			at = steps[k-1]
		}
		exit, isExit := errors.AsType[*exec.ExitError](err)
		switch status, _ := sysStatus(exit); {
		case err == nil && acked: // fewer steps than were counted, or the end
		case isExit && status.Signaled() && status.Signal() == syscall.SIGKILL:
			killed++
		default:
			t.Fatalf("before %s: the child failed: %v\n%s", at, err, out)
		}
		state, said, err := c.Read(t, dir)
		if err != nil || state != old && state != next || acked && state != next {
			t.Errorf("killed before %s: %q serves (acknowledged: %t), %v", at, state, acked, err)
			continue
		}
		if said != "" && !c.TornSaid {
			t.Errorf("killed before %s: a kill is no damage, but it is told: %s", at, said)
		}
		if state == old {
			olds++
		}
		if !c.Once {
			c.goesOn(t, dir, "killed before "+at)
		}
	}
	if killed < len(steps) {
		t.Errorf("%d kills at %d steps", killed, len(steps))
	}
	t.Logf("figure: %s: killed at each of %d steps, %d times the state of before served, 0 torn", c.Point, killed, olds)
}

func sysStatus(exit *exec.ExitError) (syscall.WaitStatus, bool) {
	if exit == nil {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return status, ok
}

// steps are those of one write.
func (c Case) steps(t *testing.T, old, next string) (steps []string) {
	t.Helper()
	dir := t.TempDir()
	c.prepare(t, dir, old)
	all := c.record(t, func() error { return c.Write(t, dir, next) })
	for _, s := range all {
		steps = append(steps, string(s.Op)+" "+filepath.Base(s.Path))
	}
	if len(steps) == 0 || len(steps) > maxSteps {
		t.Fatalf("%d steps: is it written by this point?", len(steps))
	}
	judgeOrder(t, all)
	return steps
}

func (c Case) record(t *testing.T, write func() error) (steps []durable.Step) {
	t.Helper()
	var mu sync.Mutex
	stop := durable.Watch(func(s durable.Step) error {
		if s.Point == c.Point {
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, s)
		}
		return nil
	})
	defer stop()
	if err := write(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// judgeOrder looks that what is renamed into place was synced after its last byte,
// and that the name is made to last: a kill cannot tell, a power cut would.
func judgeOrder(t *testing.T, steps []durable.Step) {
	t.Helper()
	dirty, renamed, written := map[string]bool{}, map[string]bool{}, ""
	for _, s := range steps {
		switch s.Op {
		case durable.OpWrite, durable.OpRest, durable.OpTrunc, durable.OpChmod:
			dirty[s.Path], written = true, s.Path
		case durable.OpSync:
			delete(dirty, s.Path)
		case durable.OpRename:
			if dirty[written] {
				t.Errorf("%s is renamed to %s before it is synced", written, s.Path)
			}
			renamed[filepath.Dir(s.Path)] = true
		case durable.OpDir:
			delete(renamed, filepath.Dir(s.Path))
		case durable.OpOpen, durable.OpLink, durable.OpRemove, durable.OpOther:
		}
	}
	for path := range dirty {
		t.Errorf("%s is acknowledged before it is synced", path)
	}
	for dir := range renamed {
		t.Errorf("a rename in %s is acknowledged before the directory is synced", dir)
	}
}

func (c Case) prepare(t *testing.T, dir, state string) {
	t.Helper()
	if state == "" {
		return
	}
	times := 1
	if state == Before {
		times = max(times, c.Times)
	}
	for range times {
		if err := c.Write(t, dir, state); err != nil {
			t.Fatalf("write of %q: %v", state, err)
		}
	}
	if got, said, err := c.Read(t, dir); err != nil || got != state || said != "" {
		t.Fatalf("written was %q, read is %q, said %q, %v", state, got, said, err)
	}
}

// goesOn looks that writes go on, and that nothing of an attempt is left.
func (c Case) goesOn(t *testing.T, dir, after string) {
	t.Helper()
	if err := c.Write(t, dir, Later); err != nil {
		t.Errorf("%s: the next write: %v", after, err)
		return
	}
	if state, _, err := c.Read(t, dir); err != nil || state != Later {
		t.Errorf("%s: after the next write %q serves, %v", after, state, err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".tmp") {
			t.Errorf("%s: %s is left", after, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
