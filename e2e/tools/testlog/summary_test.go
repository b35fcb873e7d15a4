package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream is what go test -json printed for a passing test with figures, a
// skipped one, a failed one with a failed subtest, a package that does not compile
// one whose process died and one that passed when it was run again; times and repeated lines left out.
const stream = `{"Action":"start","Package":"github.com/isthmus-mesh/isthmus/a"}
{"Action":"run","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip"}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip","Output":"=== RUN   TestRoundTrip\n"}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip","Output":"    a_test.go:7: figure: 1 round trip over 40 ms\n"}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip","Output":"figure: 2 printed\n"}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip","Output":"    a_test.go:8: no figure: here\n"}
{"Action":"pass","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestRoundTrip","Elapsed":0}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestConsul","Output":"    a_test.go:12: real consul is missing\n"}
{"Action":"skip","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestConsul","Elapsed":0}
{"Action":"output","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestDrain/idle","Output":"    a_test.go:20: 1 error, want 0\n"}
{"Action":"fail","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestDrain/idle","Elapsed":0}
{"Action":"fail","Package":"github.com/isthmus-mesh/isthmus/a","Test":"TestDrain","Elapsed":0}
{"Action":"fail","Package":"github.com/isthmus-mesh/isthmus/a","Elapsed":0}
# example.org/b
{"ImportPath":"example.org/b","Action":"build-fail"}
{"Action":"fail","Package":"example.org/b","Elapsed":0,"FailedBuild":"example.org/b"}
{"Action":"skip","Package":"example.org/c","Elapsed":0}
{"Action":"output","Package":"example.org/d","Test":"TestLong","Output":"ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346\n"}
{"Action":"output","Package":"example.org/d","Output":"FAIL\texample.org/d\t0.1s\n"}
{"Action":"fail","Package":"example.org/d","Elapsed":0.1}
{"Action":"output","Package":"example.org/e","Test":"TestCut","Output":"    e_test.go:9: not within 1m0s\n"}
{"Action":"fail","Package":"example.org/e","Test":"TestCut","Elapsed":60}
{"Action":"fail","Package":"example.org/e","Elapsed":60}
{"Action":"pass","Package":"example.org/e","Test":"TestCut","Elapsed":1}
{"Action":"pass","Package":"example.org/e","Elapsed":1}
`

const want = `figures:
  a TestRoundTrip: 1 round trip over 40 ms
  a TestRoundTrip: 2 printed
skipped:
  a TestConsul: real consul is missing
flaky: failed once, passed when run again:
  example.org/e TestCut: not within 1m0s
failed:
  a TestDrain/idle: 1 error, want 0
  a TestDrain: 
  example.org/b: failed outside its tests
  example.org/d: failed outside its tests: ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346
2 passed, 6 failed, 1 skipped
`

func TestRunSumsUpAnEventStream(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(file, []byte(stream), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"-failed", "2", file}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestRunRefusesAMissingStream(t *testing.T) {
	if err := run([]string{filepath.Join(t.TempDir(), "absent.json")}, &strings.Builder{}); err == nil {
		t.Error("a run without its event stream was summed up")
	}
}
