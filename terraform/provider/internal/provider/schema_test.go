package provider

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

var update = flag.Bool("update", false, "write the reference")

func TestSchemasAreValidAndEachAttributeIsDescribed(t *testing.T) {
	p := New("test")()
	var own provider.SchemaResponse
	p.Schema(t.Context(), provider.SchemaRequest{}, &own)
	if found := own.Schema.ValidateImplementation(t.Context()); found.HasError() {
		t.Error(found)
	}
	for name, s := range resources(t) {
		if found := s.ValidateImplementation(t.Context()); found.HasError() {
			t.Errorf("%s: %v", name, found)
		}
		for path, a := range flatten(s.Attributes, "") {
			if a.GetDescription() == "" {
				t.Errorf("%s: %s has no description: add it to descriptions.go", name, path)
			}
		}
	}
	for name, s := range sources(t) {
		if found := s.ValidateImplementation(t.Context()); found.HasError() {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestNoDescriptionIsOfNothing(t *testing.T) {
	used := map[string]bool{}
	for name, s := range resources(t) {
		for path := range flatten(s.Attributes, "") {
			if name == "isthmus_peer" && path == "spiffe_id" {
				path = "id"
			}
			used[strings.TrimPrefix(name, "isthmus_")+"."+path] = true
		}
	}
	for path := range descriptions {
		if strings.Contains(path, ".") && !used[path] {
			t.Errorf("descriptions.go describes %s, which no resource has", path)
		}
	}
}

// TestReferenceIsUpToDate: go test ./internal/provider -update writes it.
func TestReferenceIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Reference\n\nWritten from the code by `go test ./internal/provider -update`. Nested attributes are written `a.b`.\n\n## provider \"isthmus\"\n\n")
	var own provider.SchemaResponse
	New("test")().Schema(t.Context(), provider.SchemaRequest{}, &own)
	b.WriteString("| attribute | meaning |\n|---|---|\n")
	for _, name := range sorted(own.Schema.Attributes) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, own.Schema.Attributes[name].GetDescription())
	}
	all := resources(t)
	for _, name := range sorted(all) {
		fmt.Fprintf(&b, "\n## resource \"%s\"\n\n%s Import it by its name.\n\n| attribute | | meaning |\n|---|---|---|\n", name, all[name].Description)
		attributes := flatten(all[name].Attributes, "")
		for _, path := range sorted(attributes) {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", path, need(attributes[path]), attributes[path].GetDescription())
		}
	}
	reads := sources(t)
	for _, name := range sorted(reads) {
		fmt.Fprintf(&b, "\n## data \"%s\"\n\n%s\n\n| attribute | | meaning |\n|---|---|---|\n", name, reads[name].Description)
		attributes := flattenData(reads[name].Attributes, "")
		for _, path := range sorted(attributes) {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", path, need(attributes[path]), attributes[path].GetDescription())
		}
	}
	file := filepath.Join("..", "..", "REFERENCE.md")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != b.String() {
		t.Errorf("REFERENCE.md is not what the schemas say (%v): go test ./internal/provider -update", err)
	}
}

// attribute is what resources' and data sources' have in common.
type attribute interface {
	GetDescription() string
	IsRequired() bool
	IsOptional() bool
}

func need(a attribute) string {
	switch {
	case a.IsRequired():
		return "required"
	case a.IsOptional():
		return "optional"
	default:
		return "read"
	}
}

func resources(t *testing.T) map[string]schema.Schema {
	t.Helper()
	all := map[string]schema.Schema{}
	for _, make := range New("test")().Resources(t.Context()) {
		r := make()
		var name resource.MetadataResponse
		var s resource.SchemaResponse
		r.Metadata(t.Context(), resource.MetadataRequest{}, &name)
		r.Schema(t.Context(), resource.SchemaRequest{}, &s)
		all[name.TypeName] = s.Schema
	}
	return all
}

func sources(t *testing.T) map[string]data.Schema {
	t.Helper()
	all := map[string]data.Schema{}
	for _, make := range New("test")().DataSources(t.Context()) {
		d := make()
		var name datasource.MetadataResponse
		var s datasource.SchemaResponse
		d.Metadata(t.Context(), datasource.MetadataRequest{}, &name)
		d.Schema(t.Context(), datasource.SchemaRequest{}, &s)
		all[name.TypeName] = s.Schema
	}
	return all
}

func flatten(attributes map[string]schema.Attribute, within string) map[string]schema.Attribute {
	all := map[string]schema.Attribute{}
	for name, a := range attributes {
		all[within+name] = a
		var inner map[string]schema.Attribute
		switch a := a.(type) {
		case schema.SingleNestedAttribute:
			inner = a.Attributes
		case schema.ListNestedAttribute:
			inner = a.NestedObject.Attributes
		}
		for path, x := range flatten(inner, within+name+".") {
			all[path] = x
		}
	}
	return all
}

func flattenData(attributes map[string]data.Attribute, within string) map[string]data.Attribute {
	all := map[string]data.Attribute{}
	for name, a := range attributes {
		all[within+name] = a
		if list, ok := a.(data.ListNestedAttribute); ok {
			for path, x := range flattenData(list.NestedObject.Attributes, within+name+".") {
				all[path] = x
			}
		}
	}
	return all
}

func sorted[T any](m map[string]T) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
