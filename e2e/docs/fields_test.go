package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus/"

// comments are the doc comments of struct fields by package, type and field, and
// the values of string, number and duration constants by package and name.
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
			switch n := n.(type) {
			case *ast.ValueSpec:
				c.constants(pkg, n)
			case *ast.GenDecl: // the comment of a type stands at its declaration
				if spec, ok := n.Specs[0].(*ast.TypeSpec); ok && len(n.Specs) == 1 {
					c[pkg+"."+spec.Name.Name] = strings.Join(strings.Fields(n.Doc.Text()), " ")
				}
			}
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
				if text != "" {
					above = text
				}
				for _, name := range f.Names {
					own := text
					if own == "" && wordIn(above, name.Name) {
						own = above // one comment may stand above several fields, and names them
					}
					c[pkg+"."+spec.Name.Name+"."+name.Name] = own
				}
			}
			return true
		})
	}
}

// constants keeps what constants are worth, for comments that name them.
func (c comments) constants(pkg string, v *ast.ValueSpec) {
	for i, name := range v.Names {
		if i >= len(v.Values) {
			return
		}
		if value := worth(v.Values[i]); value != "" {
			c[pkg+"."+name.Name] = value
		}
	}
}

// worth is the value of a literal or of a number of time units, "" for others.
func worth(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strings.Trim(e.Value, "\"")
	case *ast.SelectorExpr:
		if unit := units[e.Sel.Name]; unit != "" {
			return "1" + unit
		}
	case *ast.BinaryExpr:
		count, isLiteral := e.X.(*ast.BasicLit)
		unit, isName := e.Y.(*ast.SelectorExpr)
		if isLiteral && isName && units[unit.Sel.Name] != "" {
			return count.Value + units[unit.Sel.Name]
		}
	}
	return ""
}

var units = map[string]string{"Millisecond": "ms", "Second": "s", "Minute": "m", "Hour": "h"} //nolint:gochecknoglobals // a table

var defaultName = regexp.MustCompile(`\bDefault[A-Z]\w*`)

// wordIn reports whether text names a field.
func wordIn(text, field string) bool {
	return regexp.MustCompile(`\b` + field + `\b`).MatchString(text)
}

// meaning is a field's comment as a reader of the file needs it: what a default's
// name stands for instead of the name.
func (c comments) meaning(pkg, typ, field string) string {
	return defaultName.ReplaceAllStringFunc(c[pkg+"."+typ+"."+field], func(name string) string {
		if value := c[pkg+"."+name]; value != "" {
			return "`" + value + "`"
		}
		return name
	})
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
		text := c.meaning(typ.PkgPath(), typ.Name(), f.Name)
		if text == "" && structured(inner) {
			c.load(t, inner.PkgPath())
			text, _, _ = strings.Cut(c[inner.PkgPath()+"."+inner.Name()], ". ")
			text = strings.TrimSuffix(text, ".") + "."
		}
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
