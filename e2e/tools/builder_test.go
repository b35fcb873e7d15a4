package tools_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// greeter lays out a tools folder with one nested module that pins one program.
func greeter(t *testing.T, source string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	module := filepath.Join(dir, "greeter")
	if err := os.Mkdir(module, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(module, "go.mod"), "module example.org/greeter\n\ngo 1.26\n\ntool example.org/greeter\n")
	write(t, filepath.Join(module, "main.go"), source)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func builder(t *testing.T, dir, cache string, progress io.Writer) *tools.Builder {
	t.Helper()
	b, err := tools.New(tools.Options{Dir: dir, Cache: cache, Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// log collects the progress of builders that run at once.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) builds() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "building ")
}

const hello = "package main\n\nfunc main() { print(\"hello\") }\n"

func TestConcurrentBuildsCompileOnceAndAgreeOnThePath(t *testing.T) {
	dir, cache, progress := greeter(t, hello), t.TempDir(), &log{}
	if _, err := builder(t, dir, cache, nil).Lookup(t.Context(), "greeter"); !errors.Is(err, tools.ErrNotBuilt) {
		t.Fatalf("Lookup before Build: %v, want ErrNotBuilt", err)
	}

	var paths [3]string
	var wg sync.WaitGroup
	for i := range paths {
		wg.Go(func() {
			var err error
			if paths[i], err = builder(t, dir, cache, progress).Build(t.Context(), "greeter"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}

	if paths[0] != paths[1] || paths[1] != paths[2] {
		t.Errorf("paths differ: %q", paths)
	}
	if n := progress.builds(); n != 1 {
		t.Errorf("compiled %d times, want once", n)
	}
	if out, err := exec.CommandContext(t.Context(), paths[0]).CombinedOutput(); err != nil || string(out) != "hello" {
		t.Errorf("the binary says %q, %v", out, err)
	}
	if found, err := builder(t, dir, cache, nil).Lookup(t.Context(), "greeter"); err != nil || found != paths[0] {
		t.Errorf("Lookup after Build: %q, %v; want %q", found, err, paths[0])
	}
}

func TestKeyFollowsTheModuleFile(t *testing.T) {
	dir, cache := greeter(t, hello), t.TempDir()
	b := builder(t, dir, cache, nil)
	if _, err := b.Build(t.Context(), "greeter"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "greeter", "go.mod"), "module example.org/greeter\n\ngo 1.26.0\n\ntool example.org/greeter\n")
	if bin, err := b.Lookup(t.Context(), "greeter"); !errors.Is(err, tools.ErrNotBuilt) {
		t.Errorf("a changed go.mod still finds %q, %v", bin, err)
	}
}

func TestFailedBuildLeavesNothingThatLooksBuilt(t *testing.T) {
	dir, cache, progress := greeter(t, "package main\n\nfunc main() { undefined() }\n"), t.TempDir(), &log{}
	b := builder(t, dir, cache, progress)
	if _, err := b.Build(t.Context(), "greeter"); err == nil {
		t.Fatal("a program that does not compile was built")
	}
	if !strings.Contains(progress.text.String(), "undefined: undefined") {
		t.Errorf("progress lacks the compiler's error: %q", progress.text.String())
	}
	if _, err := b.Lookup(t.Context(), "greeter"); !errors.Is(err, tools.ErrNotBuilt) {
		t.Errorf("Lookup: %v, want ErrNotBuilt", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "isthmus", "peers", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCheckoutPinsWhatTheTestsNeed(t *testing.T) {
	dir, err := tools.Dir()
	if err != nil {
		t.Fatal(err)
	}
	all, err := tools.Programs(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	if got, want := strings.Join(names, " "), "consul helm ec2-metadata-mock kube-apiserver kubectl golangci-lint gotestsum gofumpt spire-agent spire-server"; got != want {
		t.Errorf("pinned programs: %s, want %s", got, want)
	}
	if _, err := builder(t, dir, t.TempDir(), nil).Lookup(t.Context(), "nomad"); !errors.Is(err, tools.ErrUnknown) {
		t.Errorf("Lookup of an unpinned program: %v, want ErrUnknown", err)
	}
}
