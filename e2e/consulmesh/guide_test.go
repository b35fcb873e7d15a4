package consulmesh_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// guide holds the marked blocks of docs/guides/consul-mesh.md.
type guide struct {
	t      *testing.T
	blocks map[string]string
	ran    map[string]bool
	logs   string
	bin    string // comes first in PATH
}

var marked = regexp.MustCompile("(?s)<!-- run: ([a-z ]+) -->\n```[a-z]+\n(.*?)```\n")

func readGuide(t *testing.T, consul, logs string) *guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "consul-mesh.md"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{t: t, blocks: map[string]string{}, ran: map[string]bool{}, logs: logs, bin: t.TempDir()}
	for _, m := range marked.FindAllStringSubmatch(string(text), -1) {
		g.blocks[m[1]] = m[2]
	}
	if err := os.Symlink(consul, filepath.Join(g.bin, "consul")); err != nil {
		t.Fatal(err)
	}
	return g
}

// text is a block with what differs on a mesh's hosts here put in its place.
func (g *guide) text(name string, m *mesh, replace ...string) string {
	g.t.Helper()
	block, ok := g.blocks[name]
	if !ok {
		g.t.Fatalf("the guide has no block %q", name)
	}
	g.ran[name] = true
	replace = append(replace, "/etc/isthmus", m.dir, "127.0.0.1:8500", m.Address())
	return strings.NewReplacer(replace...).Replace(block)
}

func (g *guide) env(m *mesh, token string) []string {
	return append(os.Environ(), "PATH="+g.bin+":"+os.Getenv("PATH"), "CONSUL_HTTP_ADDR="+m.Address(), "CONSUL_HTTP_TOKEN="+token)
}

// run runs a block as the operator of a mesh.
func (g *guide) run(name string, m *mesh, replace ...string) string {
	g.t.Helper()
	out, err := g.try(name, m, replace...)
	if err != nil {
		g.t.Fatalf("the guide's %q: %v\n%s", name, err, out)
	}
	return out
}

func (g *guide) try(name string, m *mesh, replace ...string) (string, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", g.text(name, m, replace...))
	cmd.Env, cmd.Dir = g.env(m, management), m.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// process is a block that goes on, on a host whose token has these rules.
func (g *guide) process(name string, m *mesh, rules string, replace ...string) *stand.Process {
	g.t.Helper()
	p := stand.NewProcess(g.t, g.logs, strings.ReplaceAll(name, " ", "-"), "bash", "-euo", "pipefail", "-c", g.text(name, m, replace...))
	p.Dir = m.dir
	p.Env = g.env(m, m.Token(m.name+"-"+p.Name, rules))
	return p
}

// section reads a block of configuration, and returns one section of it.
func (g *guide) section(name, section string, m *mesh, replace ...string) stand.Object {
	g.t.Helper()
	var v map[string]stand.Object
	if err := yaml.Unmarshal([]byte(g.text(name, m, replace...)), &v); err != nil {
		g.t.Fatalf("the guide's %q: %v", name, err)
	}
	return v[section]
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
