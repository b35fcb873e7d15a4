package arch_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxLines     = 400
	maxTestLines = 600
	// maxScanned bounds the files that are searched for paths: longer ones are
	// no prose and no source.
	maxScanned = 1 << 20
)

// vague names say where a thing was put, not what it is; such a file grows
// without end, since everything fits.
var vague = []string{"util", "utils", "helper", "helpers", "common", "types", "misc", "base", "shared"}

// machinePath is a folder of one machine: a person's or a build's.
var machinePath = regexp.MustCompile(`(?m)(^|[\s"'=:(\x60])/(root|home|Users|work|builds|workspace)/[\w.-]+`)

func TestFilesStayShort(t *testing.T) {
	for _, f := range goFiles(t) {
		limit := maxLines
		if f.test {
			limit = maxTestLines
		}
		if f.lines > limit {
			t.Errorf("%s has %d lines, more than %d: split it by reason to change", f.path, f.lines, limit)
		}
	}
}

func TestFilesAreNamedAfterWhatTheyHold(t *testing.T) {
	for _, f := range goFiles(t) {
		name := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
		if slices.Contains(vague, name) || slices.Contains(vague, path.Base(f.dir)) {
			t.Errorf("%s: name it after the noun or step that it holds", f.path)
		}
	}
}

func TestEachPackageHasItsCommentInDocGo(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test || f.syntax.Doc == nil {
			if !documented[f.dir] {
				documented[f.dir] = false // a package to be documented elsewhere
			}
			continue
		}
		documented[f.dir] = true
		name, begins := f.syntax.Name.Name, "Package "+f.syntax.Name.Name+" "
		if name == "main" {
			begins = "Command " + path.Base(f.dir) + " "
		}
		if place := path.Base(f.path); place != "doc.go" && (name != "main" || place != "main.go") {
			t.Errorf("%s has a package comment: it belongs to doc.go", f.path)
		}
		if !strings.HasPrefix(f.syntax.Doc.Text(), begins) {
			t.Errorf("%s: the package comment does not begin with %q", f.path, begins)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment: add doc.go, which says what it is for, its contracts and who uses it", dir)
		}
	}
}

func TestNoPathOfABuildMachine(t *testing.T) {
	err := walk(func(rel string, d fs.DirEntry) error {
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxScanned || strings.HasPrefix(rel, "e2e/arch/") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(rel)))
		if err != nil || !utf8.Valid(text) {
			return err
		}
		if found := machinePath.Find(text); found != nil {
			t.Errorf("%s names %q, a path of one machine", rel, strings.TrimSpace(string(found)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
