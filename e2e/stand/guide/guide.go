package guide

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// within is far above what a command takes on a busy machine.
const within = 3 * time.Minute

// Guide is one page, and what was run of it.
type Guide struct {
	t      testing.TB
	page   string
	blocks map[string]string
	ran    map[string]bool
	bin    string // comes first in PATH
}

// Host is where somebody types what the page says.
type Host struct {
	// Dir is where commands run: files that the page names without a folder lie there.
	Dir string
	// Env is added to the test's own.
	Env []string
	// Logs is the folder for the output of Process.
	Logs string
	// Replace are pairs: what pages say, and what it is on this host.
	Replace []string
}

// Read reads docs/guides/PAGE. The programs are what its commands find under their
// names. At its end the test fails for blocks that it did not use.
func Read(t testing.TB, page string, programs ...string) *Guide {
	t.Helper()
	return read(t, filepath.Join("guides", page), programs)
}

// ReadDoc is Read of docs/PAGE.
func ReadDoc(t testing.TB, page string, programs ...string) *Guide {
	t.Helper()
	return read(t, page, programs)
}

func read(t testing.TB, page string, programs []string) *Guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stand.Root(t), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	marked, problems := blocks(string(text))
	for _, p := range problems {
		t.Errorf("%s: %s", page, p)
	}
	g := &Guide{t: t, page: page, blocks: marked, ran: map[string]bool{}, bin: t.TempDir()}
	for _, p := range programs {
		if err := os.Symlink(p, filepath.Join(g.bin, filepath.Base(p))); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(g.unproven)
	return g
}

// unproven fails a test that went well without some of the blocks.
func (g *Guide) unproven() {
	if g.t.Failed() || g.t.Skipped() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(g.blocks)) {
		if !g.ran[name] {
			g.t.Errorf("%s: nothing ran the block %q", g.page, name)
		}
	}
}

// Text is a block with what differs on the host put in its place. The pairs given
// here come before the host's, and each must be in the block: one that is not was
// meant for another wording of the page.
func (g *Guide) Text(name string, h *Host, replace ...string) string {
	g.t.Helper()
	block, ok := g.blocks[name]
	if !ok {
		g.t.Fatalf("%s has no block %q", g.page, name)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(block, replace[i]) {
			g.t.Fatalf("%s: the block %q has no %q", g.page, name, replace[i])
		}
	}
	g.ran[name] = true
	return strings.NewReplacer(slices.Concat(replace, h.Replace)...).Replace(block)
}

// Run runs a block, which must succeed, and returns what it printed.
func (g *Guide) Run(name string, h *Host, replace ...string) string {
	g.t.Helper()
	out, err := g.Try(name, h, replace...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// Try runs a block, and returns its standard output; the error has the other one.
func (g *Guide) Try(name string, h *Host, replace ...string) (string, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", shell(g.Text(name, h, replace...))...)
	cmd.Dir, cmd.Env = h.Dir, append(os.Environ(), g.env(h)...)
	cmd.WaitDelay = time.Second // a child of the shell may hold the pipes
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s, block %q: %w\n%s%s", g.page, name, err, &out, &errs)
	}
	return out.String(), nil
}

// Process is a block that goes on. It is not started yet.
func (g *Guide) Process(name string, h *Host, replace ...string) *stand.Process {
	g.t.Helper()
	p := stand.NewProcess(g.t, h.Logs, strings.ReplaceAll(name, " ", "-"), "bash", shell(g.Text(name, h, replace...))...)
	p.Dir, p.Env = h.Dir, g.env(h)
	return p
}

// Section is one section of a block of configuration.
func (g *Guide) Section(name, section string, h *Host, replace ...string) stand.Object {
	g.t.Helper()
	var v map[string]stand.Object
	if err := yaml.Unmarshal([]byte(g.Text(name, h, replace...)), &v); err != nil {
		g.t.Fatalf("%s, block %q: %v", g.page, name, err)
	}
	if v[section] == nil {
		g.t.Fatalf("%s, block %q: has no section %q", g.page, name, section)
	}
	return v[section]
}

// File writes a block to a path, by the name that the page gives it.
func (g *Guide) File(name, path string, h *Host, replace ...string) {
	g.t.Helper()
	path = strings.NewReplacer(h.Replace...).Replace(path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(h.Dir, path)
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(g.Text(name, h, replace...)), 0o600)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *Guide) env(h *Host) []string {
	return append([]string{"PATH=" + g.bin + ":" + os.Getenv("PATH")}, h.Env...)
}

// shell is how a block is run: it ends at the first command that fails.
func shell(text string) []string { return []string{"-euo", "pipefail", "-c", text} }
