package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// variable tells a process that it is a successor, and the descriptor of the socket.
const variable = "ISTHMUS_HANDOVER"

// ErrUnsupported says that here no process can be started with what another one holds open.
var ErrUnsupported = errors.New("a process is upgraded in place on Linux only")

// File is something open, with the name by which the successor asks for it.
type File struct {
	Name string
	FD   int
}

// offer is the first word of a predecessor. The descriptors follow the socket's, in
// the order of the names.
type offer struct {
	Files []string        `json:"files"`
	State json.RawMessage `json:"state"`
}

// The words of the two.
const (
	waiting = "waiting"
	ready   = "ready"
	failed  = "failed"
	goAhead = "go"
	serving = "serving"
)

type message struct {
	Word   string `json:"word"`
	Reason string `json:"reason,omitempty"`
}

// line is one end of the socket.
type line struct {
	conn net.Conn
	in   *json.Decoder
}

func newLine(f *os.File) (*line, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &line{conn: conn, in: json.NewDecoder(conn)}, nil
}

func (l *line) say(v any) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Minute)) // fails only on a closed one
	return json.NewEncoder(l.conn).Encode(v)
}

// hear returns the next word, until ctx ends.
func (l *line) hear(ctx context.Context) (m message, err error) {
	_ = l.conn.SetReadDeadline(time.Time{}) // fails only on a closed one
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err = l.in.Decode(&m); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}

// Command says how the successor is started.
type Command struct {
	// Path is the program, Args its arguments with its name first.
	Path string
	Args []string
}

// Successor is the process that was started to take this one's place.
type Successor struct {
	process *os.Process
	line    *line
	ended   chan struct{}
	state   *os.ProcessState
}

// Start starts a successor and hands it files and state. The files stay open here.
func Start(c Command, files []File, state any) (*Successor, error) {
	o := offer{Files: make([]string, len(files))}
	fds := make([]int, len(files))
	for i, f := range files {
		o.Files[i], fds[i] = f.Name, f.FD
	}
	var err error
	if o.State, err = json.Marshal(state); err != nil {
		return nil, err
	}
	own, process, err := spawn(c, fds)
	if err != nil {
		return nil, err
	}
	defer func() { _ = own.Close() }() // the line has its own descriptor
	s := &Successor{process: process, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.state, _ = process.Wait() // its error is that it is no child, which it is
	}()
	if s.line, err = newLine(own); err == nil {
		err = s.line.say(o)
	}
	if err != nil {
		s.Kill()
		return nil, s.why(err)
	}
	return s, nil
}

// PID of the process.
func (s *Successor) PID() int { return s.process.Pid }

// Ready waits until the successor is ready. The error says why it is not: in its own
// words, by how it ended, or ctx's cause.
func (s *Successor) Ready(ctx context.Context) error { return s.await(ctx, ready) }

// Go tells the successor to serve, and waits until it does.
func (s *Successor) Go(ctx context.Context) error {
	if err := s.line.say(message{Word: goAhead}); err != nil {
		return s.why(err)
	}
	return s.await(ctx, serving)
}

func (s *Successor) await(ctx context.Context, word string) error {
	m, err := s.line.hear(ctx)
	lacks := ""
	for err == nil && m.Word == waiting {
		lacks = m.Reason
		m, err = s.line.hear(ctx)
	}
	switch {
	case err != nil && ctx.Err() != nil && lacks != "":
		return fmt.Errorf("%w: it waits for %s", err, lacks)
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return s.why(err)
	case m.Word == failed:
		return errors.New(m.Reason)
	case m.Word != word:
		return fmt.Errorf("it said %q, which is not %q", m.Word, word)
	}
	return nil
}

// why is how the successor ended, where it did; the socket's error says less.
func (s *Successor) why(err error) error {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-s.ended:
		return fmt.Errorf("it ended: %s", s.state)
	case <-timer.C:
		return err
	}
}

// Kill ends the successor, and waits for its end.
func (s *Successor) Kill() {
	_ = s.process.Kill() // fails on one that has ended
	<-s.ended
	if s.line != nil {
		_ = s.line.conn.Close() // nobody is at the other end
	}
}

// Release leaves the successor to itself.
func (s *Successor) Release() { _ = s.line.conn.Close() } // all was said

// Inheritance is what a successor was handed.
type Inheritance struct {
	line  *line
	state json.RawMessage

	mu    sync.Mutex
	files map[string][]int
}

// Inherit returns what this process was handed, or nil if it is no successor. It is
// called once, before anything is opened.
func Inherit() (*Inheritance, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(variable) // what this process starts is no successor of its predecessor
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s: %q: must be a file descriptor", variable, text)
	}
	own := os.NewFile(uintptr(fd), "handover")
	l, err := newLine(own)
	_ = own.Close() // the line has its own descriptor
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	var o offer
	_ = l.conn.SetReadDeadline(time.Now().Add(time.Minute)) // fails only on a closed one
	if err := l.in.Decode(&o); err != nil {
		return nil, fmt.Errorf("handover: what is handed over: %w", err)
	}
	i := &Inheritance{line: l, state: o.State, files: make(map[string][]int)}
	for n, name := range o.Files {
		closeOnExec(fd + 1 + n)
		i.files[name] = append(i.files[name], fd+1+n)
	}
	return i, nil
}

// State reads what the predecessor said of itself.
func (i *Inheritance) State(v any) error { return json.Unmarshal(i.state, v) }

// Take returns the descriptor of an open file of the given name; ok is false if there is
// none, or no more. It is the caller's to close.
func (i *Inheritance) Take(name string) (fd int, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := i.files[name]
	if len(list) == 0 {
		return -1, false
	}
	i.files[name] = list[1:]
	return list[0], true
}

// Close closes what was not taken, and returns how many files that were.
func (i *Inheritance) Close() (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, list := range i.files {
		for _, f := range list {
			_ = os.NewFile(uintptr(f), "").Close() // it was of no use
			n++
		}
	}
	clear(i.files)
	return n
}

// Waiting tells the predecessor what this process still waits for.
func (i *Inheritance) Waiting(what string) {
	_ = i.line.say(message{Word: waiting, Reason: what}) // it has ended: heard when ready
}

// Ready tells the predecessor that all is ready, and waits for its word to serve. A
// predecessor that has ended has said it: there is nobody else to serve.
func (i *Inheritance) Ready(ctx context.Context) error {
	_ = i.line.say(message{Word: ready}) // it has ended: heard below
	m, err := i.line.hear(ctx)
	if err == nil && m.Word != goAhead {
		return fmt.Errorf("handover: the predecessor said %q", m.Word)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Serving tells the predecessor that it may go.
func (i *Inheritance) Serving() {
	_ = i.line.say(message{Word: serving}) // it has ended: nothing depends on it
	_ = i.line.conn.Close()
}

// Failed tells the predecessor why this process cannot take its place.
func (i *Inheritance) Failed(err error) {
	_ = i.line.say(message{Word: failed, Reason: err.Error()}) // it has ended: nobody to tell
	_ = i.line.conn.Close()
}
