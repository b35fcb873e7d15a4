//go:build unix

package exec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

func TestContract(t *testing.T) {
	for name, c := range map[string]struct{ mode, fail, cut string }{
		"a program with Serve":                  {"serve", "fail", ""},
		"a script that reports errors":          {"lines", "fail", "cut"},
		"a script that ends in the middle":      {"lines", "exit", "exit"},
		"a script that cuts a list, then fails": {"lines", "cut", "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				path := filepath.Join(t.TempDir(), "control.json")
				content := discoverytest.Content{}
				put := func(state string, c discoverytest.Content) {
					data, err := json.Marshal(control{state, c})
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path+".new", data, 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Rename(path+".new", path); err != nil {
						t.Fatal(err)
					}
				}
				put("ok", content)
				b := discoverytest.Backend{
					Source: command(t, c.mode, exec.Options{}, path),
					Set:    func(c discoverytest.Content) { content = c; put("ok", c) },
					Fail: func(on bool) {
						broken := content
						if len(broken) == 0 {
							broken = discoverytest.Content{"x": {"10.0.0.1:1"}} // something to break off in
						}
						if on {
							put(c.fail, broken)
						} else {
							put("ok", content)
						}
					},
				}
				if c.cut != "" {
					b.Cut = func(content discoverytest.Content) { put(c.cut, content) }
				}
				return b
			})
		})
	}
}

func noPublish(t *testing.T) func(*catalog.Snapshot) {
	return func(*catalog.Snapshot) { t.Error("published") }
}

func TestExitIsReported(t *testing.T) {
	s := command(t, "print", exec.Options{}, `{"hello":{"version":1}}`, `{"begin":{"full":true}}`, `{"commit":{"services":0,"endpoints":0}}`, "")
	published := 0
	err := s.Run(t.Context(), func(*catalog.Snapshot) { published++ })
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || published != 1 {
		t.Errorf("got %v, %d published", err, published)
	}
	if at, err := s.LastRead(); !errors.As(err, &exit) || at.IsZero() {
		t.Errorf("last read: %v, %v", at, err)
	}
}

func TestNoiseIsReported(t *testing.T) {
	s := command(t, "print", exec.Options{}, "Welcome!", "")
	err := s.Run(t.Context(), noPublish(t))
	var p *exec.ProtocolError
	if !errors.As(err, &p) || p.Line != 1 {
		t.Errorf("got %v", err)
	}
}

func TestAMissingCommandIsReported(t *testing.T) {
	s, err := exec.New(exec.Options{Config: exec.Config{Name: "cmd", Command: []string{"/nowhere/at/all"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), noPublish(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A command that says nothing and does not end when it is asked to.
func TestSilenceEndsACommand(t *testing.T) {
	t.Parallel()
	s := command(t, "hang", exec.Options{Config: exec.Config{MaxSilence: 100 * time.Millisecond}})
	if err := s.Run(t.Context(), noPublish(t)); !errors.Is(err, exec.ErrSilent) {
		t.Errorf("got %v", err)
	}
}

// holder waits for the connection of a "hold" child.
func holder(t *testing.T) (address string, accept func() net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String(), func() net.Conn {
		t.Helper()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

func TestTheWholeGroupEnds(t *testing.T) {
	t.Parallel()
	address, accept := holder(t)
	s := command(t, "family", exec.Options{}, address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, noPublish(t)) }()
	conn := accept() // the grandchild lives
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the grandchild outlived the source")
	}
}

func TestADescendantThatHoldsThePipeDoesNotHoldTheSource(t *testing.T) {
	t.Parallel()
	address, accept := holder(t)
	s := command(t, "stray", exec.Options{}, address)
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), noPublish(t)) }()
	accept()
	select {
	case err := <-done:
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run goes on")
	}
}

// logs is a handler's output that goroutines may write.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestStandardErrorIsLoggedWithinBounds(t *testing.T) {
	var out logs
	s := command(t, "shout", exec.Options{Log: slog.New(slog.NewJSONHandler(&out, nil))})
	if err := s.Run(t.Context(), noPublish(t)); err == nil {
		t.Error("the end is no error")
	}
	text := out.b.String()
	if !strings.Contains(text, `"reason":"line 0"`) || !strings.Contains(text, "left out lines") || !strings.Contains(text, `"source":"cmd"`) {
		t.Errorf("logged:\n%.2000s", text)
	}
	if n := strings.Count(text, "\n"); n > 200 {
		t.Errorf("%d lines", n)
	}
}

func TestTheEnvironmentIsAnAllowList(t *testing.T) {
	t.Setenv("SECRET", "do not tell")
	dir := t.TempDir()
	s := command(t, "env", exec.Options{Config: exec.Config{Env: []string{"GIVEN", "ABSENT"}, Dir: dir}})
	seen := firstReport(t, s)
	for _, want := range []string{"GIVEN=value", filepath.Base(dir)} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q is missing in %s", want, seen)
		}
	}
	for _, bad := range []string{"SECRET", "ABSENT", "HOME=", "PATH="} {
		if strings.Contains(seen, bad) {
			t.Errorf("%q is in %s", bad, seen)
		}
	}
}

// firstReport runs a source until it has reported something besides its end.
func firstReport(t *testing.T, s *exec.Source) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var text string
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.LastRead(); err != nil && strings.Contains(err.Error(), "the command reports") {
				text = err.Error()
				cancel()
			}
		}
	})
	for ctx.Err() == nil {
		_ = s.Run(ctx, noPublish(t)) // it ends, and is run again
	}
	wg.Wait()
	return text
}

func TestRereadReachesTheSourceInTheChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.json")
	data, err := json.Marshal(control{"ok", discoverytest.Content{"web": {"10.0.0.1:80"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := command(t, "serve", exec.Options{}, path)
	ctx, cancel := context.WithCancel(t.Context())
	shown := make(chan *catalog.Snapshot, 1000)
	done := make(chan error)
	go func() { done <- s.Run(ctx, func(s *catalog.Snapshot) { shown <- s }) }()
	first := <-shown
	for range 20 { // full lists and signs of life among them: all complete reads, all shared
		s.Reread()
		if next := <-shown; next != first {
			t.Error("a read that found the same is not the same snapshot")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNewReportsAllProblems(t *testing.T) {
	_, err := exec.New(exec.Options{Config: exec.Config{
		Name: "A", Command: []string{"a\x00"}, Env: []string{"A=B", ""}, MaxSilence: 1,
	}})
	for _, want := range []string{"exec.name", "exec.command[0]", "exec.env[0]", "exec.env[1]", "exec.max_silence"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
	if _, err := exec.New(exec.Options{Config: exec.Config{Name: "a"}}); err == nil || !strings.Contains(err.Error(), "exec.command") {
		t.Errorf("got %v", err)
	}
	if got := fmt.Sprint(&exec.ExitError{Code: -1, Signal: "killed"}); !strings.Contains(got, "killed") {
		t.Error(got)
	}
}
