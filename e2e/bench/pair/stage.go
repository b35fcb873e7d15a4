package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// stage lets package stand, which lays out clusters for tests, lay them out for a
// program: it is what a test is to it. It embeds a nil testing.TB for the method that
// only package testing can write; what stand does not call is not there.
type stage struct {
	testing.TB

	ctx    context.Context
	dir    string
	ends   []func()
	failed bool
	// processes are those that nobody waits for but await.
	processes []*stand.Process
	message   []string
}

// fatal ends a start, and is caught by try.
type fatal struct{ error }

// try calls what may call Fatal.
func (b *stage) try(start func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			err = f.error
		}
	}()
	return start()
}

// alive is an error where a process has ended by itself.
func (b *stage) alive() error {
	for _, p := range b.processes {
		if !p.Running() {
			return fmt.Errorf("%s has ended:\n%s", p.Name, p.LogTail(10))
		}
	}
	return nil
}

// end does what was left for the end, the last first.
func (b *stage) end() {
	for _, end := range slices.Backward(b.ends) {
		end()
	}
	b.ends = nil
}

func (b *stage) Helper()                      {}
func (b *stage) Context() context.Context     { return b.ctx }
func (b *stage) Cleanup(end func())           { b.ends = append(b.ends, end) }
func (b *stage) Failed() bool                 { return b.failed }
func (b *stage) Fatal(args ...any)            { b.stop(fmt.Sprint(args...)) }
func (b *stage) Fatalf(f string, args ...any) { b.stop(fmt.Sprintf(f, args...)) }
func (b *stage) Errorf(f string, args ...any) { b.message = append(b.message, fmt.Sprintf(f, args...)) }

// Logf has the ends of the logs of what did not start.
func (b *stage) Logf(f string, args ...any) { fmt.Fprintf(os.Stderr, f+"\n", args...) }

func (b *stage) stop(message string) {
	panic(fatal{errors.New(strings.Join(append(b.message, message), "; "))})
}
