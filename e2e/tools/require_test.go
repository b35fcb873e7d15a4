package tools_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// recorder stands in for the test that calls Require, whose end is what is
// tested.
type recorder struct {
	ctx     context.Context
	outcome string
	text    string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Fatalf(format string, args ...any) { r.end("failed", format, args) }
func (r *recorder) Skipf(format string, args ...any)  { r.end("skipped", format, args) }

func (r *recorder) end(outcome, format string, args []any) {
	r.outcome, r.text = outcome, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// call runs f as a test would and returns how it ended.
func call(t *testing.T, f func(tools.TB) string) (found, outcome, text string) {
	t.Helper()
	r := &recorder{ctx: t.Context(), outcome: "went on"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		found = f(r)
	}()
	<-done
	return found, r.outcome, r.text
}

func TestMissingPartSkipsOrFails(t *testing.T) {
	consul := func(tb tools.TB) string { return tools.Require(tb, "consul") }
	server := func(tb tools.TB) string { return tools.Command(tb, "no-such-server") }
	present := func(tb tools.TB) string { return tools.Command(tb, "go") }
	cloud := func(tb tools.TB) string { return tools.External(tb, "no-such-cloud", "ask for it") }
	for _, c := range []struct {
		name           string
		ci, strict     string
		part           func(tools.TB) string
		outcome, hints string
	}{
		{name: "unbuilt peer on a developer's machine", part: consul, outcome: "skipped", hints: "go run ./e2e/tools/build consul"},
		{name: "unbuilt peer in CI", ci: "true", part: consul, outcome: "failed", hints: "go run ./e2e/tools/build consul"},
		{name: "unbuilt peer in a strict run", strict: "1", part: consul, outcome: "failed", hints: "not built yet"},
		{name: "missing command on a developer's machine", part: server, outcome: "skipped", hints: "no-such-server"},
		{name: "missing command in CI", ci: "true", part: server, outcome: "failed", hints: ".ci/test packages"},
		{name: "missing external program in a strict run", strict: "1", part: cloud, outcome: "skipped", hints: "ask for it"},
		{name: "missing external program in CI", ci: "true", part: cloud, outcome: "failed", hints: "no-such-cloud is missing: ask for it"},
		{name: "present command in CI", ci: "true", part: present, outcome: "went on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CI", c.ci)
			t.Setenv("ISTHMUS_STRICT", c.strict)
			t.Setenv("ISTHMUS_CONSUL", "")
			t.Setenv("ISTHMUS_CACHE", t.TempDir())
			_, outcome, text := call(t, c.part)
			if outcome != c.outcome || !strings.Contains(text, c.hints) {
				t.Errorf("%s: %q, want %s with %q", outcome, text, c.outcome, c.hints)
			}
		})
	}
}

func TestVariableNamesTheProgram(t *testing.T) {
	bin := tools.Command(t, "go")
	t.Setenv("ISTHMUS_CONSUL", bin)
	consul := func(tb tools.TB) string { return tools.Require(tb, "consul") }
	if found, outcome, text := call(t, consul); found != bin || outcome != "went on" {
		t.Errorf("Require found %q, %s: %s; want %q", found, outcome, text, bin)
	}

	// A variable that is wrong is an error anywhere: it was set on purpose.
	t.Setenv("CI", "")
	t.Setenv("ISTHMUS_STRICT", "")
	t.Setenv("ISTHMUS_CONSUL", filepath.Join(t.TempDir(), "consul"))
	if _, outcome, text := call(t, consul); outcome != "failed" || !strings.Contains(text, "ISTHMUS_CONSUL") {
		t.Errorf("%s: %q, want a failure that names ISTHMUS_CONSUL", outcome, text)
	}
}
