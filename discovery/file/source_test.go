package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/file"
)

// yamlOf writes a content as a catalog file.
// interval is how often the tests have the file looked at.
const interval = 10 * time.Millisecond

func yamlOf(c discoverytest.Content) string {
	var b strings.Builder
	b.WriteString("services:")
	if len(c) == 0 {
		b.WriteString(" []")
	}
	for _, s := range c.Services() {
		fmt.Fprintf(&b, "\n  - name: %s\n    endpoints:", s.Name)
		for _, e := range s.Endpoints {
			fmt.Fprintf(&b, "\n      - {address: %q}", e.Address)
		}
	}
	return b.String() + "\n"
}

func newSource(t *testing.T, path string) *file.Source {
	t.Helper()
	s, err := file.New(file.Options{Name: "files", Config: file.Config{Path: path, Interval: interval}, Locality: home})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// replace puts a file in place at once, as configuration management does.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	for name, broken := range map[string]func(t *testing.T, path string){
		"missing": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"empty":  func(t *testing.T, path string) { replace(t, path, "") },
		"broken": func(t *testing.T, path string) { replace(t, path, "services: [{name: Web}]") },
		"folder": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				path := filepath.Join(t.TempDir(), "catalog.yaml")
				content := ""
				set := func(c string) {
					content = c
					_ = os.Remove(path) // also where it is a folder
					replace(t, path, c)
				}
				set(yamlOf(nil))
				return discoverytest.Backend{
					Source: newSource(t, path),
					Set:    func(c discoverytest.Content) { set(yamlOf(c)) },
					Fail: func(on bool) {
						if on {
							broken(t, path)
						} else {
							set(content)
						}
					},
					Cut: func(c discoverytest.Content) {
						whole := yamlOf(c)
						replace(t, path, whole[:len(whole)-8]) // inside of the last endpoint
					},
				}
			})
		})
	}
}

// follow runs a source and keeps what it shows.
type follow struct {
	*file.Source
	mu    sync.Mutex
	shown []*catalog.Snapshot
}

func run(t *testing.T, path string) *follow {
	f := &follow{Source: newSource(t, path)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- f.Run(ctx, func(s *catalog.Snapshot) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.shown = append(f.shown, s)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *follow) all() []*catalog.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shown)
}

func (f *follow) want(t *testing.T, c discoverytest.Content) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		all := f.all()
		if n := len(all); n > 0 && discoverytest.ContentOf(all[n-1]).String() == c.String() {
			return
		}
		if time.Now().After(deadline) {
			_, err := f.LastRead()
			t.Fatalf("%v is not shown, only %d snapshots; %v", c, len(all), err)
		}
	}
}

var (
	one = discoverytest.Content{"web": {"10.0.0.1:80"}, "db": {"10.0.0.9:5432"}}
	two = discoverytest.Content{"web": {"10.0.0.2:80"}, "db": {"10.0.0.9:5432"}}
)

// A config map of Kubernetes: the file is a link into a folder that is a link,
// and that one is swapped. Same size, and here the same modification time.
func TestFollowsASwappedLink(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	for name, c := range map[string]discoverytest.Content{"v1": one, "v2": two} {
		path := filepath.Join(dir, name, "catalog.yaml")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(yamlOf(c)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/catalog.yaml", "catalog.yaml")
	f := run(t, filepath.Join(dir, "catalog.yaml"))
	f.want(t, one)
	link("v2", "..data")
	f.want(t, two)
}

// A write in place of the same size within the same tick of the clock.
func TestSeesAChangeThatTheTimeDoesNotShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	at := time.Now().Add(-time.Second)
	write := func(c discoverytest.Content) {
		t.Helper()
		if err := os.WriteFile(path, []byte(yamlOf(c)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(one)
	f := run(t, path)
	f.want(t, one)
	write(two)
	f.want(t, two)
}

// Whoever writes slowly in place, never a moment without a change, is not read
// in the middle, though each prefix by lines is a valid file.
func TestDoesNotReadAFileThatIsBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	replace(t, path, yamlOf(one))
	f := run(t, path)
	f.want(t, one)
	big := discoverytest.Content{}
	for i := range 200 {
		big[fmt.Sprintf("s%03d", i)] = []string{"10.0.0.1:80"}
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	held, last := 0, time.Now()
	for line := range strings.Lines(yamlOf(big)) {
		if _, err := out.WriteString(line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if time.Since(last) > interval/2 {
			held++
		}
		last = time.Now()
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	f.want(t, big)
	torn := 0
	for _, s := range f.all() {
		if s.Len() != len(one) && s.Len() != len(big) {
			torn++
		}
	}
	// A busy machine may hold the writer up for so long that the file looks done; a
	// source that does not wait shows dozens.
	if torn > held {
		t.Errorf("%d half-written files were shown, the writer was held up %d times", torn, held)
	}
}

func TestSharesWhatDidNotChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	replace(t, path, yamlOf(one))
	f := run(t, path)
	f.want(t, one)
	replace(t, path, "# a comment changes nothing\n"+yamlOf(one))
	replace(t, path, yamlOf(two))
	f.want(t, two)
	all := f.all()
	db := catalog.MustServiceName("db")
	if len(all) != 2 || all[0].Get(db) != all[1].Get(db) {
		t.Errorf("%d snapshots, shared: %v", len(all), all[0].Get(db) == all[len(all)-1].Get(db))
	}
	f.Reread()
	for deadline := time.Now().Add(30 * time.Second); len(f.all()) != 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d snapshots after a reread", len(f.all()))
		}
	}
	if last := f.all()[2]; last.Get(db) != all[0].Get(db) {
		t.Error("a reread copies")
	}
}

func TestNewReportsProblems(t *testing.T) {
	for field, o := range map[string]file.Options{
		"file.path":     {Name: "files"},
		"file.interval": {Name: "files", Config: file.Config{Path: "x", Interval: time.Nanosecond}},
		"source":        {Name: "Files", Config: file.Config{Path: "x"}},
	} {
		if _, err := file.New(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
