package docs_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The Terraform modules know every key of the configuration files by a schema that
// is written from the types which read them, so that a plan refuses what a process
// would refuse to start with.
func TestTerraformSchema(t *testing.T) {
	schema := map[string]map[string]string{"run": {}, "ca": {}}
	addKeys(schema["run"], reflect.TypeFor[config.Config](), "")
	addKeys(schema["ca"], reflect.TypeFor[config.CA](), "")
	for file, keys := range schema {
		for path := range keys {
			// terraform/modules/config/check.tf looks that deep and no deeper.
			if steps := strings.Count(strings.ReplaceAll(path, "[]", ".[]"), ".") + 1; steps > 11 {
				t.Errorf("%s: %s is %d steps deep: add levels to terraform/modules/config/check.tf", file, path, steps)
			}
		}
	}
	var want bytes.Buffer
	want.WriteString("{\n")
	for i, file := range slices.Sorted(maps.Keys(schema)) {
		if i > 0 {
			want.WriteString(",\n")
		}
		keys, err := json.MarshalIndent(schema[file], "  ", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want.WriteString("  \"" + file + "\": ")
		want.Write(keys)
	}
	want.WriteString("\n}\n")
	same(t, filepath.Join("..", "terraform", "modules", "config", "schema.json"), want.String())
	if *update {
		return
	}
	data, err := os.ReadFile(filepath.Join("..", "..", "terraform", "modules", "config", "schema.json"))
	if err != nil || !json.Valid(data) {
		t.Errorf("the schema is no JSON: %v", err)
	}
}

// addKeys writes the kind of each key below prefix: text, duration, number, bool,
// object (keys of its own), map (any keys; their kind is at ".*") or list (its items'
// kind is at "[]").
func addKeys(out map[string]string, typ reflect.Type, prefix string) {
	for f := range typ.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if strings.Contains(opts, "inline") {
			inner, _ := element(f.Type)
			addKeys(out, inner, prefix)
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		addKind(out, f.Type, prefix+name)
	}
}

func addKind(out map[string]string, typ reflect.Type, path string) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[strictyaml.OneOrMore]():
		out[path], out[path+"[]"] = "text or list", "text"
	case structured(typ):
		out[path] = "object"
		addKeys(out, typ, path+".")
	case typ.Kind() == reflect.Slice:
		out[path] = "list"
		addKind(out, typ.Elem(), path+"[]")
	case typ.Kind() == reflect.Map:
		out[path] = "map"
		addKind(out, typ.Elem(), path+".*")
	case typ.String() == "time.Duration":
		out[path] = "duration"
	case typ.Kind() == reflect.Bool:
		out[path] = "bool"
	case typ.Kind() >= reflect.Int && typ.Kind() <= reflect.Float64:
		out[path] = "number"
	default:
		out[path] = "text"
	}
}
