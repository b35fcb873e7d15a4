package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is what go test -json prints per line (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// test names one test; Test is empty for the package itself.
type test struct{ Package, Test string }

// module is left out of what is printed: all packages here begin with it.
const module = "github.com/isthmus-mesh/isthmus/"

func (t test) String() string {
	return strings.TrimSpace(strings.TrimPrefix(t.Package, module) + " " + t.Test)
}

// line is a test with what is to be said of it.
type line struct {
	test test
	text string
}

// summary counts one run.
type summary struct {
	passed  map[test]bool
	figures []line
	skipped []line
	failed  []line
	flaky   []line // failed, and passed when run again

	last   map[test]string   // last thing that a running test logged
	died   map[string]string // by package: how its process died, in the runtime's words
	blamed map[string]bool   // packages with a failed test
}

func newSummary() *summary {
	return &summary{passed: map[test]bool{}, last: map[test]string{}, died: map[string]string{}, blamed: map[string]bool{}}
}

// logged is a line that testing's log methods print: "    file_test.go:12: text".
var logged = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: (.*)`)

// dying is how the last words of a test's process begin.
var dying = regexp.MustCompile(`^(panic: |fatal error: |SIG[A-Z]+: |ThreadSanitizer: |race: |goleak: )`)

// maxEvent bounds one line of the stream. go test splits output at newlines, so
// only a test that logs megabytes without one comes near.
const maxEvent = 16 << 20

// read adds one event stream. Lines that are no events (a build's complaints in
// older Go) are left out.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Package != "" {
			s.add(e)
		}
	}
	return lines.Err()
}

func (s *summary) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		s.output(t, e.Output)
	case "pass":
		if e.Test != "" {
			s.passed[t] = true
			s.again(t)
		}
		delete(s.last, t)
	case "skip":
		if e.Test != "" { // a package without tests is no skipped test
			s.skipped = append(s.skipped, line{t, s.last[t]})
		}
		delete(s.last, t)
	case "fail":
		s.fail(t)
	}
}

func (s *summary) output(t test, text string) {
	text = strings.TrimRight(text, "\n")
	if m := logged.FindStringSubmatch(text); m != nil {
		text = m[1]
		s.last[t] = text
	}
	if s.died[t.Package] == "" && dying.MatchString(text) {
		s.died[t.Package] = text
	}
	if figure, ok := strings.CutPrefix(text, "figure: "); ok {
		s.figures = append(s.figures, line{t, figure})
	}
}

// fail counts a failed test, and a failed package only if none of its tests did:
// the package's own event comes last and would count the same failure twice.
func (s *summary) fail(t test) {
	if t.Test == "" {
		if !s.blamed[t.Package] {
			s.failed = append(s.failed, line{t, strings.TrimSuffix("failed outside its tests: "+s.died[t.Package], ": ")})
		}
		return
	}
	s.blamed[t.Package] = true
	s.failed = append(s.failed, line{t, s.last[t]})
	delete(s.last, t)
}

// again moves a failed test that has passed now to those that are flaky.
func (s *summary) again(t test) {
	for i, l := range s.failed {
		if l.test == t {
			s.failed = slices.Delete(s.failed, i, i+1)
			s.flaky = append(s.flaky, l)
			return
		}
	}
}

func (s *summary) print(w io.Writer, extra int) {
	section(w, "figures", s.figures)
	section(w, "skipped", s.skipped)
	section(w, "flaky: failed once, passed when run again", s.flaky)
	section(w, "failed", s.failed)
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", len(s.passed), len(s.failed)+extra, len(s.skipped))
}

func section(w io.Writer, title string, lines []line) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "%s:\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s: %s\n", l.test, l.text)
	}
}
