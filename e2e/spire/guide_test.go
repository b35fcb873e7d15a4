package spire_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/stand/spire"
)

// guide holds the marked blocks of docs/guides/spire.md.
type guide struct {
	t      *testing.T
	blocks map[string]string
	ran    map[string]bool
	// dir is where commands run: the files that the guide names lie there.
	dir string
	// bin comes first in PATH; it holds SPIRE's programs.
	bin string
}

var marked = regexp.MustCompile("(?s)<!-- run: ([a-z ]+) -->\n```[a-z]+\n(.*?)```\n")

func readGuide(t *testing.T, programs ...string) *guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "spire.md"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{t: t, blocks: map[string]string{}, ran: map[string]bool{}, dir: t.TempDir(), bin: t.TempDir()}
	for _, m := range marked.FindAllStringSubmatch(string(text), -1) {
		g.blocks[m[1]] = m[2]
	}
	for _, p := range programs {
		if err := os.Symlink(p, filepath.Join(g.bin, filepath.Base(p))); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// text is a block with what differs here put in its place.
func (g *guide) text(name string, replace ...string) string {
	g.t.Helper()
	block, ok := g.blocks[name]
	if !ok {
		g.t.Fatalf("the guide has no block %q", name)
	}
	g.ran[name] = true
	return strings.NewReplacer(replace...).Replace(block)
}

// run runs a block on the host of a domain.
func (g *guide) run(name string, d *spire.Domain, replace ...string) string {
	g.t.Helper()
	replace = append(replace, "/run/spire/server.sock", d.Admin, "/run/spire/agent.sock", d.Socket)
	ctx, cancel := context.WithTimeout(g.t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", g.text(name, replace...))
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "PATH="+g.bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("the guide's %q: %v\n%s", name, err, out)
	}
	return string(out)
}

// done fails the test for blocks that were not run: they would be unproven.
func (g *guide) done() {
	g.t.Helper()
	for name := range g.blocks {
		if !g.ran[name] {
			g.t.Errorf("nothing ran the guide's block %q", name)
		}
	}
}
