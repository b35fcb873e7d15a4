package arch_test

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// points are the write points of the product: what outlives a process, by the
// package that keeps it. A new one is named here, and has a crash test beside it.
var points = map[string]string{
	"api-token":         "federation/api",
	"audit":             "federation/audit",
	"bundle-endpoint":   "identity/bundleendpoint",
	"ca-agent":          "identity/ca/agent",
	"ca-bundle":         "identity/ca",
	"ca-federated":      "identity/ca",
	"ca-hosts":          "identity/ca",
	"ca-roots":          "identity/ca",
	"consul-copy":       "federation/store/consulkv",
	"gateway-addresses": "gateway/virtual",
	"gateway-reset-key": "gateway",
	"gateway-switches":  "gateway/switches",
	"gateway-tables":    "gateway/tablestore",
	"identity-cache":    "identity",
	"locality":          "providers/metadata",
	"peers":             "federation",
	"prices":            "federation",
	"sources":           "discovery",
	"spend":             "federation",
	"store":             "federation/store",
	"store-journal":     "federation/store",
}

// writers are the functions of package os that change what outlives the process.
var writers = []string{"Create", "CreateTemp", "Link", "OpenFile", "Remove", "RemoveAll", "Rename", "Symlink", "Truncate", "WriteFile"}

// otherWriters may use them, for what is not kept.
var otherWriters = map[string]string{
	"internal/durable/...":                  "the one way",
	"cmd/isthmus/demo":                      "a demo's folder is thrown away",
	"cmd/isthmus/cli/export.go":             "the operator's own file, asked for by name",
	"cmd/isthmus/cli/explain_replay.go":     "the operator's own file, asked for by name",
	"cmd/isthmus/cli/simulate.go":           "the operator's own file, asked for by name",
	"identity/internal/keep/lock_unix.go":   "a lock holds nothing",
	"identity/internal/keep/owner_unix.go":  "opens for reading, with flags",
	"identity/internal/workload/socket.go":  "a socket",
	"federation/api/socket.go":              "a socket",
	"federation/store/bolt.go":              "hands os.OpenFile to bbolt, which writes its file itself: federation/store/image_test.go",
	"federation/store/journal.go":           "removes its own attempt after an error",
	"cmd/isthmus/process/upgrade_socket.go": "a socket",
	"e2e/...":                               "for tests",
}

func TestOnlyDurableWrites(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || strings.HasSuffix(f.dir, "test") { // of tests, such as consultest
			continue
		}
		_, byFile := otherWriters[f.path]
		if byFile || withinAny(f.dir, slices.Collect(maps.Keys(otherWriters))) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "os" && slices.Contains(writers, sel.Sel.Name) {
				t.Errorf("%s uses os.%s: what outlives the process is written by internal/durable, so that a test can end the process at each step", f.path, sel.Sel.Name)
			}
			return true
		})
	}
}

// Every point is declared once, is named above, and is crashed by a test of its
// package; and only tests watch.
func TestEveryWritePointIsCrashed(t *testing.T) {
	declared, crashed := map[string]string{}, map[string]bool{}
	for _, f := range goFiles(t) {
		if within(f.dir, "internal/durable/...") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if sel, ok := n.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Point" && len(n.Values) == 1 && !f.test {
					name := text(n.Values[0])
					if other, twice := declared[name]; twice {
						t.Errorf("%s and %s both declare the write point %q", f.path, other, name)
					}
					declared[name] = f.dir
				}
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "durable" && n.Sel.Name == "Watch" && !f.test {
					t.Errorf("%s watches writes: only tests may", f.path)
				}
			}
			return true
		})
	}
	constants := map[string]string{} // "dir.name"
	for _, f := range goFiles(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && len(spec.Names) == 1 {
				if sel, ok := spec.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Point" {
					constants[f.dir+"."+spec.Names[0].Name] = text(spec.Values[0])
				}
			}
			return true
		})
	}
	for _, f := range goFiles(t) {
		if !f.test || within(f.dir, "internal/durable/...") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Point" {
					crashed[f.dir+"/"+pointOf(f.dir, n.Value, constants)] = true
				}
			case *ast.CallExpr: // a function that makes a case of a point
				if fun, ok := n.Fun.(*ast.Ident); ok && fun.Name == "boltCase" && len(n.Args) == 1 {
					crashed[f.dir+"/"+pointOf(f.dir, n.Args[0], constants)] = true
				}
			}
			return true
		})
	}
	if !maps.Equal(declared, points) {
		t.Errorf("write points are %v, the list has %v", declared, points)
	}
	for name, dir := range points {
		if !crashed[dir+"/"+name] {
			t.Errorf("no test of %s crashes the write point %q: see internal/durable/crashtest", dir, name)
		}
	}
}

func pointOf(dir string, x ast.Expr, constants map[string]string) string {
	if id, ok := x.(*ast.Ident); ok {
		return constants[dir+"."+id.Name]
	}
	return text(x)
}

func text(x ast.Expr) string {
	lit, ok := x.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return s
}
