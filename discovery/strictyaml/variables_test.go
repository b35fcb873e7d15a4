package strictyaml_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

func TestVariablesStandInTextsAndDurations(t *testing.T) {
	environment := map[string]string{"POD": "gw-1", "HOST": "10.0.0.7", "WAIT": "3s", "EMPTY": ""}
	o := strictyaml.Options{Variables: func(name string) (string, bool) { v, ok := environment[name]; return v, ok }}
	var c config
	if _, err := o.Decode("c.yaml", []byte(`
name: ${POD}.example$${POD}${EMPTY}
wait: ${WAIT}
tcp: [{address: "${HOST}:80", caller: $HOME}]
labels: {"${POD}": "${POD}"}
`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Common.Name != "gw-1.example${POD}" || c.Wait != 3*time.Second || c.TCP[0].Address.String() != "10.0.0.7:80" || c.TCP[0].Caller != "$HOME" || c.Labels["${POD}"] != "gw-1" {
		t.Errorf("read %+v", c)
	}

	c = config{}
	if _, err := strictyaml.Decode("c.yaml", []byte("name: ${POD}"), &c); err != nil || c.Common.Name != "${POD}" {
		t.Errorf("without the option: %q, %v; want it as written", c.Common.Name, err)
	}
}

func TestVariablesThatAreMissingAreProblemsOfTheirFields(t *testing.T) {
	environment := func(name string) (string, bool) { return "secret", name == "SET" }
	var c config
	err := strictyaml.Options{Variables: environment}.DecodeValid("c.yaml", []byte("name: ${SET}-${UNSET}\nwait: ${9}\nlabels: {a: \"${SET\", b: \"${}\"}\n"), &c, func() error { return nil })
	var problems strictyaml.Problems
	if !errors.As(err, &problems) || len(problems) != 4 {
		t.Fatalf("got %v, want four problems", err)
	}
	for i, want := range []string{
		"c.yaml:1:7: name: ${SET}-${UNSET}: the environment variable UNSET is not set",
		"c.yaml:2:7: wait: ${9}: ${9} must be ${NAME}",
		"c.yaml:3:13: labels.a: ${SET: ${SET must be ${NAME}",
		"c.yaml:3:26: labels.b: ${}: ${} must be ${NAME}",
	} {
		field := strings.Split(want, ": ")[1]
		if got := problems[i].Error(); !strings.Contains(got, field) || !strings.Contains(got, want[strings.LastIndex(want, ": ")+2:]) || strings.Contains(got, "secret") {
			t.Errorf("problem %d: %s, want it like %s", i, got, want)
		}
	}
}
