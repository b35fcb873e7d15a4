package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus/"

// comments are the doc comments of struct fields by package, type and field.
type comments map[string]string

// load reads the comments of one package of this module.
func (c comments) load(t *testing.T, pkg string) {
	t.Helper()
	if _, done := c[pkg]; done {
		return
	}
	c[pkg] = ""
	dir, ours := strings.CutPrefix(pkg, module)
	if !ours {
		return
	}
	parsed, err := parser.ParseDir(token.NewFileSet(), filepath.Join("..", "..", dir), func(f fs.FileInfo) bool { //nolint:staticcheck // build tags do not matter for comments
		return !strings.HasSuffix(f.Name(), "_test.go")
	}, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parsed {
		ast.Inspect(p, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			above := ""
			for _, f := range st.Fields.List {
				text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
				if text == "" {
					text = above // one comment may stand above several fields
				}
				above = text
				for _, name := range f.Names {
					c[pkg+"."+spec.Name.Name+"."+name.Name] = text
				}
			}
			return true
		})
	}
}

// rows walks a configuration type and returns a table row for each key.
func rows(t *testing.T, c comments, typ reflect.Type, prefix string) []string {
	t.Helper()
	c.load(t, typ.PkgPath())
	var out []string
	for f := range typ.Fields() {
		if !f.IsExported() {
			continue
		}
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		inner, list := element(f.Type)
		if strings.Contains(opts, "inline") {
			out = append(out, rows(t, c, inner, prefix)...)
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		key := prefix + name
		text := c[typ.PkgPath()+"."+typ.Name()+"."+f.Name]
		out = append(out, fmt.Sprintf("| `%s` | %s | %s |", key, kind(f.Type), strings.ReplaceAll(text, "|", `\|`)))
		if structured(inner) {
			sep := "."
			if list {
				sep = "[]."
			}
			out = append(out, rows(t, c, inner, key+sep)...)
		}
	}
	return out
}

func element(t reflect.Type) (inner reflect.Type, list bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		list = list || t.Kind() == reflect.Slice
		t = t.Elem()
	}
	return t, list
}

// structured reports whether a type is written as a mapping of its own keys.
func structured(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || !strings.HasPrefix(t.PkgPath(), strings.TrimSuffix(module, "/")) {
		return false
	}
	_, text := reflect.PointerTo(t).MethodByName("UnmarshalText")
	return !text
}

func kind(t reflect.Type) string {
	inner, list := element(t)
	word := ""
	switch {
	case inner.String() == "time.Duration":
		word = "duration"
	case structured(inner):
		word = "mapping"
	case inner.Kind() == reflect.Bool:
		word = "true or false"
	case inner.Kind() == reflect.Map:
		word = "mapping"
	case inner.Kind() >= reflect.Int && inner.Kind() <= reflect.Float64:
		word = "number"
	default:
		word = "text"
	}
	if list {
		return "list of " + word
	}
	return word
}
