package guide

import (
	"fmt"
	"strings"
	"testing"
)

const page = "# Page\n\n```\na drawing\n```\n\n<!-- run: east 1 -->\n```sh\necho HOST; echo no >&2; false\n```\n\n" +
	"<!-- run: config -->\n```yaml\ngateway: {name: gw1}\n```\n"

func TestBlocks(t *testing.T) {
	marked, problems := blocks(page)
	if len(marked) != 2 || marked["config"] != "gateway: {name: gw1}\n" || len(problems) != 0 {
		t.Errorf("%v, %v", marked, problems)
	}
	for text, want := range map[string]string{
		page + "\n```sh\nrm -r /\n```\n": "a block of sh has no mark",
		page + page:                      `two blocks are marked "east 1"`,
		"# Page\n":                       "no block is marked",
	} {
		if _, problems := blocks(text); !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("want %q, got %v", want, problems)
		}
	}
}

// caller is a test that notes what it is told instead of failing.
type caller struct {
	testing.TB
	errors []string
	failed bool
}

func (c *caller) Helper()      {}
func (c *caller) Failed() bool { return c.failed }
func (c *caller) Errorf(format string, args ...any) {
	c.errors = append(c.errors, fmt.Sprintf(format, args...))
}

func (c *caller) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	panic(c)
}

func TestGuideFailsForWhatNothingRan(t *testing.T) {
	c := &caller{TB: t}
	marked, _ := blocks(page)
	g := &Guide{t: c, page: "page.md", blocks: marked, ran: map[string]bool{}, bin: t.TempDir()}
	out, err := g.Try("east 1", &Host{Dir: t.TempDir()}, "HOST", "a host")
	if out != "a host\n" || err == nil || !strings.Contains(err.Error(), "no\n") {
		t.Errorf("%q, %v", out, err)
	}
	g.unproven()
	if len(c.errors) != 1 || !strings.Contains(c.errors[0], `nothing ran the block "config"`) {
		t.Errorf("told %q", c.errors)
	}
	if got := g.Section("config", "gateway", &Host{})["name"]; got != "gw1" {
		t.Errorf("name %v", got)
	}
	for what, call := range map[string]func(){
		"no block":      func() { g.Text("west", &Host{}) },
		`has no "EAST"`: func() { g.Text("config", &Host{}, "EAST", "x") },
	} {
		c.errors = nil
		func() {
			defer func() { _ = recover() }()
			call()
		}()
		if len(c.errors) != 1 || !strings.Contains(c.errors[0], what) {
			t.Errorf("%s: told %q", what, c.errors)
		}
	}
}
