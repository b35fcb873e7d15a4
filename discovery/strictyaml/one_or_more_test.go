package strictyaml_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

func TestOneOrMore(t *testing.T) {
	type config struct {
		Address strictyaml.OneOrMore `yaml:"address"`
	}
	for text, want := range map[string][]string{
		"address: a:1":             {"a:1"},
		"address: [a:1, b:2]":      {"a:1", "b:2"},
		"address:\n- a:1\n- b:2\n": {"a:1", "b:2"},
		"address: []":              {},
		"{}":                       nil,
	} {
		var c config
		if _, err := strictyaml.Decode("x.yaml", []byte(text), &c); err != nil || !slices.Equal(c.Address, want) {
			t.Errorf("%q = %q, %v; want %q", text, c.Address, err, want)
		}
	}
	for _, text := range []string{"address: {a: 1}", "address: [[a]]"} {
		var c config
		if _, err := strictyaml.Decode("x.yaml", []byte(text), &c); err == nil {
			t.Errorf("%q was accepted as %q", text, c.Address)
		}
	}
}
