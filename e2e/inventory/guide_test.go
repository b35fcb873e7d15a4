package inventory_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	isthmusexec "github.com/isthmus-mesh/isthmus/discovery/exec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every block of Go in the guide is part of the files here, which the tests run.
func TestGuideShowsThisCode(t *testing.T) {
	guide, err := os.ReadFile("../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range []string{"source.go", "source_test.go", "isthmus-inventory/main.go"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(data)
	}
	blocks := 0
	for _, part := range strings.Split(string(guide), "```go\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks++
		for piece := range strings.SplitSeq(block, "\t// ...\n") { // left out there
			if !strings.Contains(code.String(), piece) {
				t.Errorf("docs/sources.md shows what is not in the example:\n%s", piece)
			}
		}
	}
	if blocks < 3 {
		t.Errorf("docs/sources.md has %d blocks of Go", blocks)
	}
}

// The script of the guide, and the program of the example, behind the source that
// the federation runs them by.
func TestGuidesProgramsRun(t *testing.T) {
	guide, err := os.ReadFile("../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(guide), "```sh\n#!/bin/sh\n")
	script, _, _ := strings.Cut(rest, "```")
	path := filepath.Join(t.TempDir(), "source.sh")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil || !found { //nolint:gosec // it is run
		t.Fatalf("docs/sources.md has no script: %v", err)
	}
	program := filepath.Join(t.TempDir(), "isthmus-inventory")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./isthmus-inventory").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	b := newBackend(t)
	b.set(discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}}, "")
	for name, c := range map[string]struct {
		command []string
		want    string
	}{
		"script":  {[]string{"sh", path}, "{web=10.0.0.1:80}"},
		"program": {[]string{program, b.url}, "{web=10.0.0.1:80,10.0.0.2:80}"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := isthmusexec.New(isthmusexec.Options{Config: isthmusexec.Config{Name: "inventory", Command: c.command, Env: []string{"PATH"}}})
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			shown := make(chan string, 16)
			done := make(chan error, 1)
			go func() {
				done <- source.Run(ctx, func(s *catalog.Snapshot) { shown <- discoverytest.ContentOf(s).String() })
			}()
			t.Cleanup(func() { // the context has ended
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			select {
			case got := <-shown:
				if got != c.want {
					t.Errorf("want %s, got %s", c.want, got)
				}
			case <-time.After(time.Minute):
				_, err := source.LastRead()
				t.Fatalf("published nothing: %v", err)
			}
		})
	}
}
