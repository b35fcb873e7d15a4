package strictyaml

import (
	"errors"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// place returns where field stands, or its nearest parent that the document has.
func (d *Document) place(field string) (line, column int) {
	for {
		if p, ok := d.places[field]; ok {
			return p.line, p.column
		}
		cut := strings.LastIndexAny(field, ".[")
		if cut < 0 {
			p := d.places[""]
			return p.line, p.column
		}
		field = field[:cut]
	}
}

func nodePosition(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{}
}

func mapEntries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func keyText(e *ast.MappingValueNode) string {
	if s, ok := scalarText(e.Key); ok {
		return s
	}
	return e.Key.String()
}

// scalarText is what was written, not what YAML makes of it: "on", "1e3" and
// "010" stay what they are where a text is wanted.
func scalarText(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case ast.ScalarNode:
		return s.GetToken().Value, true
	}
	return "", false
}

func yamlError(err error, into *yaml.Error) bool { return errors.As(err, into) }

// fieldByName finds the settable field for a YAML key, also in inlined structs.
func fieldByName(v reflect.Value, key string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, inline := tagOf(f)
		if inline {
			if found, ok := fieldByName(v.Field(i), key); ok {
				return found, true
			}
			continue
		}
		if name == key && name != "-" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		name, inline := tagOf(f)
		switch {
		case !f.IsExported() || name == "-":
		case inline:
			names = append(names, fieldNames(f.Type)...)
		default:
			names = append(names, name)
		}
	}
	return names
}

func tagOf(f reflect.StructField) (name string, inline bool) {
	name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if strings.Contains(opts, "inline") {
		return "", true
	}
	if name == "" {
		name = strings.ToLower(f.Name)
	}
	return name, false
}

func kindWord(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number, 0 or above"
	case reflect.Float32, reflect.Float64:
		return "number"
	default:
		return "value of kind " + k.String()
	}
}
