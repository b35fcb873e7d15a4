package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to drain before it is killed.
const stopGrace = 10 * time.Second

// Supervisor starts the demo's processes and tells when one ends. It restarts
// nothing by itself.
type Supervisor struct {
	binary string
	procs  []Process
	// onChange is called after a process started or ended.
	onChange func(Event)

	spawn chan func()
	wg    sync.WaitGroup

	mu      sync.Mutex
	running map[string]*exec.Cmd
	stopped bool
}

// Event is a process that started (Err nil, PID set) or ended.
type Event struct {
	Process Process
	PID     int
	Ended   bool
	// How the process ended: "signal: killed", "exit status 1".
	How string
}

// NewSupervisor starts nothing yet.
func NewSupervisor(binary string, procs []Process, onChange func(Event)) *Supervisor {
	return &Supervisor{
		binary: binary, procs: procs, onChange: onChange,
		spawn: make(chan func()), running: map[string]*exec.Cmd{},
	}
}

// Run serves start requests until ctx ends, then stops every process: first
// what callers see, last what the others need.
func (s *Supervisor) Run(ctx context.Context) error {
	// One thread starts all children and lives as long as they may: where the
	// system ends children with their parent, it means the parent thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case f := <-s.spawn:
			f()
		case <-ctx.Done():
			s.stopAll()
			s.wg.Wait()
			return nil
		}
	}
}

// Start starts one process; it fails if it runs already.
func (s *Supervisor) Start(ctx context.Context, p Process) error {
	result := make(chan error, 1)
	select {
	case s.spawn <- func() { result <- s.start(p) }:
		return <-result
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Supervisor) start(p Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("the demo is stopping")
	}
	if c, ok := s.running[p.ID()]; ok {
		return fmt.Errorf("%s runs already, as pid %d", p.ID(), c.Process.Pid)
	}
	if err := os.MkdirAll(filepath.Dir(p.Log), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := exec.Command(s.binary, p.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.ID(), err)
	}
	s.running[p.ID()] = cmd
	s.wg.Go(func() { s.wait(p, cmd) })
	return nil
}

func (s *Supervisor) wait(p Process, cmd *exec.Cmd) {
	pid := cmd.Process.Pid
	s.onChange(Event{Process: p, PID: pid})
	how := "exit status 0"
	if err := cmd.Wait(); err != nil {
		how = err.Error()
	}
	s.mu.Lock()
	delete(s.running, p.ID())
	stopped := s.stopped
	s.mu.Unlock()
	if !stopped {
		s.onChange(Event{Process: p, PID: pid, Ended: true, How: how})
	}
}

// PID of a running process, or 0.
func (s *Supervisor) PID(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.running[id]; ok {
		return c.Process.Pid
	}
	return 0
}

// Dead lists the processes that a name means and that do not run: a process
// ("aws-us-east-1/billing"), all of a cluster, or all that have the bare name.
func (s *Supervisor) Dead(name string) (dead []Process, known bool) {
	for _, p := range s.procs {
		if name != p.ID() && name != p.Name && name != p.Cluster {
			continue
		}
		known = true
		if s.PID(p.ID()) == 0 {
			dead = append(dead, p)
		}
	}
	return dead, known
}

// stopAll ends the processes in the reverse order of their start, kind by kind.
func (s *Supervisor) stopAll() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	for _, kind := range []Kind{KindGateway, KindFederation, KindService, KindCA} {
		var ids []string
		for _, p := range s.procs {
			if p.Kind == kind {
				ids = append(ids, p.ID())
			}
		}
		s.stopSome(ids)
	}
}

func (s *Supervisor) stopSome(ids []string) {
	deadline := time.Now().Add(stopGrace)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		s.signal(ids, sig)
		for time.Now().Before(deadline) && slices.ContainsFunc(ids, func(id string) bool { return s.PID(id) != 0 }) {
			pause(context.Background(), 10*time.Millisecond)
		}
	}
}

func (s *Supervisor) signal(ids []string, sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if c, ok := s.running[id]; ok {
			_ = c.Process.Signal(sig) // it may have ended just now
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
