package arch_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/isthmus-mesh/isthmus"
)

// file is one Go file of the product's module, whatever platform it is for:
// rules hold on those that this machine does not build too.
type file struct {
	path    string // slash-separated, from the root
	dir     string // the package's path below the module
	test    bool
	lines   int
	imports []string
	syntax  *ast.File
}

// ours returns the imports of f that are of this module, relative to it.
func (f file) ours() []string {
	var rel []string
	for _, imp := range f.imports {
		if dir, ok := strings.CutPrefix(imp, module+"/"); ok {
			rel = append(rel, dir)
		}
	}
	return rel
}

var load = sync.OnceValues(func() ([]file, error) {
	var files []file
	err := walk(func(rel string, _ fs.DirEntry) error {
		if path.Ext(rel) != ".go" || nested(rel) {
			return nil
		}
		f, err := parse(rel)
		files = append(files, f)
		return err
	})
	return files, err
})

// goFiles parses the checkout once for all tests.
func goFiles(t *testing.T) []file {
	t.Helper()
	files, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found: the rules would hold of nothing")
	}
	return files
}

func parse(rel string) (file, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(rel)))
	if err != nil {
		return file{}, err
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{
		path:   rel,
		dir:    path.Dir(rel),
		test:   strings.HasSuffix(rel, "_test.go"),
		lines:  bytes.Count(text, []byte("\n")),
		syntax: syntax,
	}
	for _, spec := range syntax.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, imp)
	}
	return f, nil
}

// walk visits the files that belong to the repository: not what git, an editor
// or a build left beside them.
func walk(visit func(rel string, d fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			foreign := strings.HasPrefix(name, ".") && name != ".ci" && p != root
			if foreign || name == "bin" || name == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Name() == ".git" {
			return nil // of a linked work tree: it names the repository's place
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return visit(filepath.ToSlash(rel), d)
	})
}

// nested tells whether a file is outside the product's module or no code of it.
func nested(rel string) bool {
	dirs := strings.Split(path.Dir(rel), "/")
	if slices.Contains(dirs, "testdata") {
		return true
	}
	for i := range dirs {
		mod := filepath.Join(append([]string{root}, dirs[:i+1]...)...)
		if _, err := os.Stat(filepath.Join(mod, "go.mod")); err == nil && dirs[0] != "." {
			return true
		}
	}
	return false
}

// within tells whether dir is the pattern's package, or below it where the
// pattern ends in "/..."; "..." is everything.
func within(dir, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == tree || strings.HasPrefix(dir, tree+"/")
	}
	return dir == pattern
}

func withinAny(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return within(dir, p) })
}
