package stand

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopWithin is far above what an ordered stop takes on a busy machine.
const stopWithin = 60 * time.Second

// Process is one process of a scenario. It can be started again after it ended.
type Process struct {
	Name string
	Path string
	Args []string
	Env  []string
	Dir  string
	Log  string

	t    testing.TB
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// NewProcess describes a process whose output goes to logDir/name.log. It is
// killed at the end of the test; the tail of its log is shown if the test fails.
func NewProcess(t testing.TB, logDir, name, path string, args ...string) *Process {
	p := &Process{Name: name, Path: path, Args: args, Log: filepath.Join(logDir, name+".log"), t: t}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- %s, end of its log:\n%s", name, p.LogTail(40))
		}
	})
	return p
}

// Start starts the process; a running one is an error of the test.
func (p *Process) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		p.t.Fatalf("%s runs already", p.Name)
	}
	if err := os.MkdirAll(filepath.Dir(p.Log), 0o700); err != nil {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, log, log
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID of the process that was started last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill is kill -9 of the process and its children, and waits for its end.
func (p *Process) Kill() { p.signalAndWait(syscall.SIGKILL) }

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		_ = p.cmd.Process.Signal(sig)
	}
}

func (p *Process) signalAndWait(sig syscall.Signal) {
	p.mu.Lock()
	if !p.running() {
		p.mu.Unlock()
		return
	}
	done, pid := p.done, p.cmd.Process.Pid
	if sig == syscall.SIGKILL {
		_ = syscall.Kill(-pid, sig)
	} else {
		_ = p.cmd.Process.Signal(sig)
	}
	p.mu.Unlock()
	<-done
}

// Stop is SIGTERM and waits for the end; a process that does not end, or ends
// with an error, fails the test.
func (p *Process) Stop() {
	p.t.Helper()
	timer := time.AfterFunc(stopWithin, func() {
		p.t.Errorf("%s does not stop within %s", p.Name, stopWithin)
		p.Kill()
	})
	defer timer.Stop()
	p.signalAndWait(syscall.SIGTERM)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		p.t.Errorf("%s stopped with %v", p.Name, p.err)
	}
}

// LogTail is the last n lines that the process wrote.
func (p *Process) LogTail(n int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// LogCount counts the lines of the log that contain every given text.
func (p *Process) LogCount(texts ...string) int {
	data, _ := os.ReadFile(p.Log) // no log yet: nothing logged
	count := 0
line:
	for l := range strings.Lines(string(data)) {
		for _, text := range texts {
			if !strings.Contains(l, text) {
				continue line
			}
		}
		count++
	}
	return count
}
