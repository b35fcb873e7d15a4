package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
)

const (
	// grace is what the command gets between being asked to end and being killed.
	grace = 5 * time.Second
	// drain is how long its pipes are read after its end: a descendant that left
	// the process group may hold them for ever.
	drain = 2 * time.Second
	// askWithin bounds a write to a command that does not read its input.
	askWithin = 100 * time.Millisecond
)

// ExitError says how a command ended.
type ExitError struct {
	// Code is the exit code, -1 where a signal ended the command.
	Code int
	// Signal is its name, or "".
	Signal string
}

// Error says it in words.
func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "the command was ended by a signal: " + e.Signal
	}
	return fmt.Sprintf("the command ended with exit code %d", e.Code)
}

// child is one run of the command.
type child struct {
	s              *Source
	cmd            *osexec.Cmd
	in             *os.File // our ends of its pipes
	out, complaint *os.File
	exited         chan struct{} // closed after Wait
}

func (s *Source) start() (*child, error) {
	c := &child{s: s, exited: make(chan struct{})}
	cmd := osexec.Command(s.opts.Config.Command[0], s.opts.Config.Command[1:]...)
	cmd.Dir, cmd.Env = s.opts.Config.Dir, s.environment()
	ownGroup(cmd)
	c.cmd = cmd
	var theirs []*os.File
	pipe := func(write bool) (ours, child *os.File, err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		if write {
			ours, child = w, r
		} else {
			ours, child = r, w
		}
		theirs = append(theirs, child)
		return ours, child, nil
	}
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // the child has its own
		}
	}()
	var errIn, errOut, errErr error
	var in, out, complaint *os.File
	c.in, in, errIn = pipe(true)
	c.out, out, errOut = pipe(false)
	c.complaint, complaint, errErr = pipe(false)
	if err := errors.Join(errIn, errOut, errErr); err != nil {
		c.close()
		return nil, fmt.Errorf("exec: pipes: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, complaint
	if err := cmd.Start(); err != nil {
		c.close()
		return nil, fmt.Errorf("exec: start the command: %w", err)
	}
	s.log.Info("started the command", "pid", cmd.Process.Pid)
	return c, nil
}

func (c *child) close() {
	for _, f := range []*os.File{c.in, c.out, c.complaint} {
		if f != nil {
			_ = f.Close() // a pipe
		}
	}
}

// run reads the command until it ends, breaks the protocol, falls silent, or ctx
// ends; then it makes sure that the command is gone.
func (c *child) run(ctx context.Context, publish discovery.Publish) error {
	defer c.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	alive := make(chan struct{}, 1)
	read := make(chan error, 1)
	wg.Go(func() { read <- c.read(ctx, publish, alive) })
	wg.Go(func() { logStderr(c.complaint, c.s.log) })
	wg.Go(func() {
		_ = c.cmd.Wait() // ProcessState tells how
		close(c.exited)
	})
	err := c.watch(ctx, alive, read)
	c.end()
	return err
}

// watch waits for what ends the command, and returns it.
func (c *child) watch(ctx context.Context, alive <-chan struct{}, read <-chan error) error {
	silence := time.NewTimer(c.s.opts.Config.MaxSilence)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-alive:
			silence.Reset(c.s.opts.Config.MaxSilence)
		case <-c.s.kick:
			c.ask()
		case <-silence.C:
			return fmt.Errorf("%w for %v", ErrSilent, c.s.opts.Config.MaxSilence)
		case <-c.exited:
			endGroup(c.cmd, true) // else they hold the pipe
			c.deadline()
			return errors.Join(c.exit(), broken(<-read)) // what it printed before its end counts
		case err := <-read:
			if !errors.Is(err, io.EOF) {
				return err
			}
			// It closed its output; most likely it ends.
			if c.wait(drain) {
				return c.exit()
			}
			return errors.New("the command has closed its standard output")
		}
	}
}

// broken is a protocol error, if err is one: the other ends of a stream go with
// the end of the command.
func broken(err error) error {
	if p, ok := errors.AsType[*ProtocolError](err); ok {
		return p
	}
	return nil
}

func (c *child) exit() error {
	st := c.cmd.ProcessState
	return &ExitError{Code: st.ExitCode(), Signal: signalOf(st)}
}

// end makes the whole group end: politely where the command still runs.
func (c *child) end() {
	_ = c.in.Close() // the polite word of the protocol
	select {
	case <-c.exited:
	default:
		endGroup(c.cmd, false)
		c.wait(grace)
	}
	endGroup(c.cmd, true)
	<-c.exited
	c.deadline()
	c.s.log.Info("the command has ended", "pid", c.cmd.Process.Pid, "status", c.exit().Error())
}

// wait reports whether the command ended within d.
func (c *child) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	}
}

// deadline lets reading end soon although a descendant may hold the pipes.
func (c *child) deadline() {
	for _, f := range []*os.File{c.out, c.complaint} {
		_ = f.SetReadDeadline(time.Now().Add(drain)) // pipes have deadlines on unix; elsewhere there are no stray descendants
	}
}

// ask writes the parent's one word; a command need not listen.
func (c *child) ask() {
	if c.in.SetWriteDeadline(time.Now().Add(askWithin)) != nil {
		return
	}
	if _, err := c.in.WriteString(`{"reread":{}}` + "\n"); err != nil {
		c.s.log.Debug("the command does not read its standard input", "err", err)
	}
}

// read publishes what the command commits until its output ends.
func (c *child) read(ctx context.Context, publish discovery.Publish, alive chan<- struct{}) error {
	d := NewDecoder(&pulse{c.out, alive}, c.s.opts.Config.Name)
	for {
		event, err := d.Next()
		if err != nil {
			return err
		}
		if event.Kind == Failed {
			c.s.report(event.Err)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.s.report(nil)
		publish(event.Snapshot)
	}
}

// pulse notes every read that brought something.
type pulse struct {
	io.Reader
	alive chan<- struct{}
}

func (p *pulse) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		select {
		case p.alive <- struct{}{}:
		default:
		}
	}
	return n, err
}
