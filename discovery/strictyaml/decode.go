package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxDepth bounds the nesting of a document.
const maxDepth = 32

// Options change how a document is read; the zero value changes nothing.
type Options struct {
	// Variables looks up what ${NAME} stands for in texts and durations ($${ is a
	// literal ${). Nil: a text is what was written.
	Variables func(name string) (string, bool)
}

// Document is a decoded file and the places of its fields.
type Document struct {
	File string
	// Unreadable is set where nothing could be read: the file is no YAML, or
	// too large.
	Unreadable bool

	places map[string]position
}

type position struct{ line, column int }

// Decode reads data into the struct that into points to, by its `yaml` tags
// (`yaml:",inline"` embeds). Fields that the document leaves out keep the value
// they had, so defaults are set before. The returned error is Problems; the
// Document is never nil.
func Decode(file string, data []byte, into any) (*Document, error) {
	return Options{}.Decode(file, data, into)
}

// Decode is the function of the same name, with options.
func (o Options) Decode(file string, data []byte, into any) (*Document, error) {
	doc := &Document{File: file, places: map[string]position{}}
	if len(data) > MaxSize {
		doc.Unreadable = true
		return doc, Problems{{File: file, Rule: fmt.Sprintf("has %d bytes, at most %d", len(data), MaxSize)}}
	}
	tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		doc.Unreadable = true
		return doc, Problems{syntaxProblem(file, err)}
	}
	d := &decoder{doc: doc, variables: o.Variables}
	switch {
	case len(tree.Docs) > 1:
		d.fail(tree.Docs[1].Body, "", "one document a file, this has "+fmt.Sprint(len(tree.Docs)))
	case len(tree.Docs) == 1 && tree.Docs[0].Body != nil:
		d.value(tree.Docs[0].Body, reflect.ValueOf(into).Elem(), "", 0)
	}
	if len(d.problems) > 0 {
		d.problems.Sort()
		return doc, d.problems
	}
	return doc, nil
}

func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Rule: "is not YAML: " + err.Error()}
	var ye yaml.Error
	if yamlError(err, &ye) {
		p.Rule = "is not YAML: " + ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	return p
}

type decoder struct {
	doc       *Document
	variables func(string) (string, bool)
	problems  Problems
}

func (d *decoder) fail(n ast.Node, field, rule string) {
	p := Problem{File: d.doc.File, Field: field, Rule: rule}
	if n != nil {
		pos := nodePosition(n)
		p.Line, p.Column = pos.line, pos.column
		if s, ok := n.(ast.ScalarNode); ok {
			p.Value = shorten(fmt.Sprint(s.GetValue()))
		}
	}
	d.problems = append(d.problems, p)
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *decoder) value(n ast.Node, v reflect.Value, field string, depth int) {
	if depth > maxDepth {
		d.fail(n, field, fmt.Sprintf("is nested deeper than %d", maxDepth))
		return
	}
	if _, seen := d.doc.places[field]; !seen {
		d.doc.places[field] = nodePosition(n)
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.fail(n, field, "anchors, aliases and tags are not used here; write the value out")
		return
	case *ast.NullNode:
		return // "key:" with nothing keeps the default
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), field, depth+1)
		return
	}
	_, listed := n.(*ast.SequenceNode)
	if v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler) && (!listed || v.Kind() != reflect.Slice) {
		d.text(n, v.Addr().Interface().(encoding.TextUnmarshaler), field)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, field, depth)
	case reflect.Slice:
		d.list(n, v, field, depth)
	case reflect.Map:
		d.mapping(n, v, field, depth)
	default:
		d.scalar(n, v, field)
	}
}

func (d *decoder) text(n ast.Node, u encoding.TextUnmarshaler, field string) {
	s, ok := d.written(n, field)
	if !ok {
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		d.fail(n, field, err.Error())
	}
}

func (d *decoder) structure(n ast.Node, v reflect.Value, field string, depth int) {
	entries, ok := mapEntries(n)
	if !ok {
		d.fail(n, field, "must be a mapping of keys ("+strings.Join(fieldNames(v.Type()), ", ")+")")
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		key, path := keyText(e), ""
		path = join(field, key)
		if seen[key] {
			d.fail(e.Key, path, "the key is given twice")
			continue
		}
		seen[key] = true
		d.doc.places[path] = nodePosition(e.Key)
		f, found := fieldByName(v, key)
		if !found {
			d.fail(e.Key, path, "unknown key; known here: "+strings.Join(fieldNames(v.Type()), ", "))
			continue
		}
		d.value(e.Value, f, path, depth+1)
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, field string, depth int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(n, field, "must be a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", field, i), depth+1)
	}
	v.Set(out)
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, field string, depth int) {
	entries, ok := mapEntries(n)
	if !ok {
		d.fail(n, field, "must be a mapping")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, e := range entries {
		path := join(field, keyText(e))
		key := reflect.New(v.Type().Key()).Elem()
		if key.Addr().Type().Implements(textUnmarshaler) {
			before := len(d.problems)
			d.text(e.Key, key.Addr().Interface().(encoding.TextUnmarshaler), path)
			if len(d.problems) > before {
				continue
			}
		} else {
			key.SetString(keyText(e))
		}
		if out.MapIndex(key).IsValid() {
			d.fail(e.Key, path, "the key is given twice")
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.Value, item, path, depth+1)
		out.SetMapIndex(key, item)
	}
	v.Set(out)
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, field string) {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		s, ok := d.written(n, field)
		if !ok {
			return
		}
		dur, err := time.ParseDuration(s)
		if err != nil {
			d.fail(n, field, `must be a duration such as "500ms", "30s" or "1h"`)
			return
		}
		v.SetInt(int64(dur))
		return
	}
	if v.Kind() == reflect.String {
		if s, ok := d.written(n, field); ok {
			v.SetString(s)
		}
		return
	}
	if err := yaml.NodeToValue(n, v.Addr().Interface()); err != nil {
		d.fail(n, field, "must be a "+kindWord(v.Kind()))
	}
}
