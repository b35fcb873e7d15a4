package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

var (
	class = regexp.MustCompile(`(?m)^class (\w+) extends cdktf\.(\w+) \{$`)
	// accessor reads a value, whose kind its name tells.
	accessor = regexp.MustCompile(`(?m)^ {4}get (\w+)\(\) \{\n +return (cdktf\.Fn\.tolist\()?this\.(get\w+|interpolationForAttribute)\('(\w+)'\)`)
	nested   = regexp.MustCompile(`(?m)^ +this\._(\w+) = new ([\w.]+)\(this, "(\w+)"(?:, (true|false))?\);$`)
	item     = regexp.MustCompile(`return new (\w+)\(this\.terraformResource`)
	// argument is one of the provider's own, whose members have no accessor.
	argument = regexp.MustCompile(`(?m)^ {12}(\w+): \{\n +value: cdktf\.(string|boolean|number)ToHclTerraform\(`)
)

// accessors tell a member's type.
var accessors = map[string]tftypes.Type{
	"getStringAttribute":     tftypes.String,
	"getNumberAttribute":     tftypes.Number,
	"getBooleanAttribute":    tftypes.Bool,
	"getListAttribute":       tftypes.List{ElementType: tftypes.String},
	"getNumberListAttribute": tftypes.List{ElementType: tftypes.Number},
	"getStringMapAttribute":  tftypes.Map{ElementType: tftypes.String},
}

// read reads the schemas of some resource types.
func read(dir string, types []string) (*server, error) {
	s := &server{resources: map[string]*tfprotov5.Schema{}}
	for _, t := range types {
		name := strings.ReplaceAll(strings.TrimPrefix(t, "google_"), "_", "-")
		m, err := open(filepath.Join(dir, "lib", name, "index.js"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		block, err := m.block(m.root)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		s.resources[t] = &tfprotov5.Schema{Block: block}
	}
	text, err := os.ReadFile(filepath.Join(dir, "lib", "provider", "index.js"))
	if err != nil {
		return nil, err
	}
	own := &tfprotov5.SchemaBlock{}
	for _, a := range argument.FindAllStringSubmatch(string(text), -1) {
		own.Attributes = append(own.Attributes, &tfprotov5.SchemaAttribute{
			Name: a[1], Type: map[string]tftypes.Type{"string": tftypes.String, "boolean": tftypes.Bool, "number": tftypes.Number}[a[2]], Optional: true,
		})
	}
	s.provider = &tfprotov5.Schema{Block: own}
	return s, nil
}

// module is one file of the package: its classes, by name.
type module struct {
	classes map[string]string
	root    string
}

func open(path string) (*module, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &module{classes: map[string]string{}}
	found := class.FindAllStringSubmatchIndex(string(text), -1)
	for i, at := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		name := string(text[at[2]:at[3]])
		m.classes[name] = string(text[at[0]:end])
		if kind := string(text[at[4]:at[5]]); kind == "TerraformResource" {
			m.root = name
		}
	}
	if m.root == "" {
		return nil, fmt.Errorf("%s: no class of a resource", path)
	}
	return m, nil
}

// block is the schema of a class.
func (m *module) block(name string) (*tfprotov5.SchemaBlock, error) {
	text, ok := m.classes[name]
	if !ok {
		return nil, fmt.Errorf("no class %s", name)
	}
	out := &tfprotov5.SchemaBlock{}
	for _, f := range accessor.FindAllStringSubmatch(text, -1) {
		t, ok := accessors[f[3]]
		if !ok {
			return nil, fmt.Errorf("%s.%s: unknown accessor %s", name, f[4], f[3])
		}
		if list, is := t.(tftypes.List); is && f[2] != "" {
			t = tftypes.Set{ElementType: list.ElementType}
		}
		a := written(text, f[1], f[4])
		a.Type = t
		// Which of the optional ones are computed as well is not told.
		a.Computed = !a.Required
		out.Attributes = append(out.Attributes, a)
	}
	for _, f := range nested.FindAllStringSubmatch(text, -1) {
		if err := m.nest(out, written(text, f[1], f[3]), f[2], f[4] == "true"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// written tells whether a member can be written, and must be: it then has a method
// that sets it, and none that resets it.
func written(text, member, name string) *tfprotov5.SchemaAttribute {
	capital := strings.ToUpper(member[:1]) + member[1:]
	set := strings.Contains(text, "\n    set "+member+"(value)") || strings.Contains(text, "\n    put"+capital+"(value)")
	reset := strings.Contains(text, "\n    reset"+capital+"()")
	return &tfprotov5.SchemaAttribute{Name: name, Optional: set && reset, Required: set && !reset}
}

// nest adds what a class of its own describes: a block where it can be written, an
// attribute where it is only read.
func (m *module) nest(out *tfprotov5.SchemaBlock, attribute *tfprotov5.SchemaAttribute, class string, set bool) error {
	if class == "cdktf.StringMap" {
		attribute.Computed = true
		attribute.Type = tftypes.Map{ElementType: tftypes.String}
		out.Attributes = append(out.Attributes, attribute)
		return nil
	}
	one := true
	if i := item.FindStringSubmatch(m.classes[class]); i != nil {
		class, one = i[1], false
	}
	block, err := m.block(class)
	if err != nil {
		return err
	}
	switch {
	case !attribute.Optional && !attribute.Required:
		attribute.Computed, attribute.Type = true, tftypes.List{ElementType: block.ValueType()}
		if set {
			attribute.Type = tftypes.Set{ElementType: block.ValueType()}
		}
		out.Attributes = append(out.Attributes, attribute)
		return nil
	case attribute.Name == "timeouts":
		out.BlockTypes = append(out.BlockTypes, &tfprotov5.SchemaNestedBlock{TypeName: attribute.Name, Block: block, Nesting: tfprotov5.SchemaNestedBlockNestingModeSingle})
		return nil
	}
	b := &tfprotov5.SchemaNestedBlock{TypeName: attribute.Name, Block: block, Nesting: tfprotov5.SchemaNestedBlockNestingModeList}
	if set {
		b.Nesting = tfprotov5.SchemaNestedBlockNestingModeSet
	}
	if one {
		b.MaxItems = 1
	}
	if attribute.Required {
		b.MinItems = 1
	}
	out.BlockTypes = append(out.BlockTypes, b)
	return nil
}
