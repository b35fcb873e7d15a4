package aws_test

import (
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws"
)

func TestConfigReportsEveryProblemWithItsPlace(t *testing.T) {
	text := `interval: 2h
rate: -1
adress: public
labels: ["a b"]
accounts:
  - name: Prod
    regions: [us-east-1, US, us-east-1]
    role: {arn: nobody, external_id: "?"}
    endpoint: ftp://x
    cloud_map:
      - {namespace: "", services: [A, web, web], protocol: gopher}
    ecs:
      - {cluster: "", services: [{name: "", ports: [{port: 0}]}]}
    target_groups:
      - {name: "-x"}
      - {name: UPPER}
    auto_scaling:
      - {service: a, service_tag: b, ports: []}
    ec2:
      - {ports: [{port: 80, name: a}, {port: 81, name: a}], service: federation, tags: {x: ["*"]}}
  - name: empty
    regions: []
`
	_, err := aws.ParseConfig("aws.yaml", []byte(text))
	problems, ok := errors.AsType[strictyaml.Problems](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	said := map[string]bool{}
	for _, p := range problems {
		said[p.Field] = true
		if p.Line == 0 {
			t.Errorf("no place: %v", p)
		}
	}
	for _, field := range []string{
		"interval", "rate", "adress", "labels[0]", "accounts[0].name", "accounts[0].regions[1]", "accounts[0].regions[2]",
		"accounts[0].role.arn", "accounts[0].role.external_id", "accounts[0].endpoint",
		"accounts[0].cloud_map[0].namespace", "accounts[0].cloud_map[0].services[0]", "accounts[0].cloud_map[0].services[2]",
		"accounts[0].cloud_map[0].protocol", "accounts[0].ecs[0].cluster", "accounts[0].ecs[0].services[0].name",
		"accounts[0].ecs[0].services[0].ports[0].port", "accounts[0].target_groups[0].name", "accounts[0].target_groups[1].service",
		"accounts[0].auto_scaling[0]", "accounts[0].auto_scaling[0].ports", "accounts[0].ec2[0].service",
		"accounts[0].ec2[0].ports[1].name", "accounts[0].ec2[0].tags.x", "accounts[1]", "accounts[1].regions",
	} {
		if !said[field] {
			t.Errorf("nothing is said of %s in:\n%v", field, err)
		}
	}
}

// The README's example is the reference: it has every key and is valid.
func TestTheReadmeIsValid(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for block := range strings.SplitSeq(string(data), "```yaml\n") {
		text, _, found := strings.Cut(block, "\n```")
		if !found || !strings.Contains(text, "accounts:") {
			continue
		}
		blocks++
		if _, err := aws.ParseConfig("README.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if blocks == 0 {
		t.Error("there is no example")
	}
}

// The README explains every key.
func TestTheReadmeHasEveryKey(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	collect(reflect.TypeFor[aws.Config](), keys)
	for key := range keys {
		if !regexp.MustCompile(`\b` + key + `:`).Match(data) {
			t.Errorf("README.md has no key %s", key)
		}
	}
	if len(keys) < 30 {
		t.Errorf("only %d keys: %v", len(keys), keys)
	}
}

func collect(t reflect.Type, keys map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(t.Elem(), keys)
	case reflect.Struct:
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" {
				keys[name] = true
			}
			if f.Tag.Get("yaml") != "" {
				collect(f.Type, keys)
			}
		}
	default: // a value
	}
}
