package strictyaml_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

type listener struct {
	Address netip.AddrPort `yaml:"address"`
	Caller  string         `yaml:"caller"`
}

type common struct {
	Name string `yaml:"name"`
}

type config struct {
	Common  common              `yaml:",inline"`
	Enabled bool                `yaml:"enabled"`
	Count   uint32              `yaml:"count"`
	Wait    time.Duration       `yaml:"wait"`
	TCP     []listener          `yaml:"tcp"`
	Labels  map[string]string   `yaml:"labels"`
	Nested  *struct{ X string } `yaml:"nested"`
}

func TestDecodeKeepsDefaultsAndReadsEveryKind(t *testing.T) {
	c := config{Count: 7, Wait: time.Second}
	_, err := strictyaml.Decode("c.yaml", []byte(`
name: a
enabled: true
wait: 250ms
tcp:
  - {address: "127.0.0.1:80", caller: 010}
labels: {version: 1.10, on: off}
nested: {x: "y"}
`), &c)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		Common: common{Name: "a"}, Enabled: true, Count: 7, Wait: 250 * time.Millisecond,
		TCP:    []listener{{Address: netip.MustParseAddrPort("127.0.0.1:80"), Caller: "010"}},
		Labels: map[string]string{"version": "1.10", "on": "off"},
		Nested: &struct{ X string }{X: "y"},
	}
	if d := cmp.Diff(want, c, cmp.AllowUnexported(config{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestDecodeReportsEveryProblemWithItsPlace(t *testing.T) {
	var c config
	_, err := strictyaml.Decode("c.yaml", []byte(`name: a
nmae: b
count: -1
wait: 5
tcp:
  - {address: nowhere, extra: 1}
name: again
enabled: [1]
`), &c)
	var ps strictyaml.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("want Problems, got %v", err)
	}
	var got []string
	for _, p := range ps {
		got = append(got, strings.Join([]string{p.Field, p.Value}, "="))
		if p.File != "c.yaml" || p.Line == 0 || p.Rule == "" {
			t.Errorf("problem without file, line or rule: %+v", p)
		}
	}
	want := []string{"nmae=nmae", "count=-1", "wait=5", "tcp[0].address=nowhere", "tcp[0].extra=extra", "name=name", "enabled="}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%v", d, err)
	}
	if ps[0].Line != 2 || ps[3].Line != 6 {
		t.Errorf("lines %d and %d, want 2 and 6", ps[0].Line, ps[3].Line)
	}
}

func TestLocateGivesLaterProblemsTheirPlace(t *testing.T) {
	var c config
	doc, err := strictyaml.Decode("c.yaml", []byte("name: a\ntcp:\n  - {address: \"127.0.0.1:80\"}\n"), &c)
	if err != nil {
		t.Fatal(err)
	}
	found := strictyaml.Within("tcp[0]", errors.Join(
		strictyaml.Fail("caller", "", "is needed"),
		strictyaml.Fail("address", "127.0.0.1:80", "must not be loopback"),
	))
	ps := doc.Locate(found)
	if len(ps) != 2 || ps[0].Line != 3 || ps[1].Line != 3 || ps[0].Field != "tcp[0].address" && ps[1].Field != "tcp[0].address" {
		t.Errorf("got %v", ps)
	}
}

func TestDecodeRefusesSyntaxErrorsAliasesAndSeveralDocuments(t *testing.T) {
	for name, in := range map[string]string{
		"syntax":    "name: [",
		"alias":     "name: &a x\ncaller: *a\n",
		"documents": "name: a\n---\nname: b\n",
		"scalar":    "just text",
	} {
		t.Run(name, func(t *testing.T) {
			var c config
			if _, err := strictyaml.Decode("c.yaml", []byte(in), &c); err == nil {
				t.Error("want an error")
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\ntcp: [{address: '1.2.3.4:5'}]\nlabels: {a: b}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		doc, err := strictyaml.Decode("f.yaml", data, &c)
		if doc == nil {
			t.Fatal("no document")
		}
		var ps strictyaml.Problems
		if err != nil && (!errors.As(err, &ps) || len(ps) == 0) {
			t.Fatalf("an error without problems: %v", err)
		}
	})
}
