package release_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const version = "1.2.3-rc.4"

// built is one release, and the clone that it was made in.
type built struct{ dist, clone string }

// build clones a checkout's commit to a folder and makes a release of it there, in an
// environment of its own.
func build(of, name string, env ...string) (built, error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return built{}, err
	}
	b := built{dist: filepath.Join(dir, "dist"), clone: filepath.Join(dir, name)}
	folders = append(folders, dir)
	clone := exec.Command("git", "-c", "safe.directory=*", "clone", "--quiet", "--shared", of, b.clone)
	if out, err := clone.CombinedOutput(); err != nil {
		return b, fmt.Errorf("clone: %w: %s", err, out)
	}
	cmd := exec.Command("go", "run", "-C", filepath.Join(b.clone, "deploy", "release"), ".", "-out", b.dist, "-version", version, "-arch", "amd64")
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("release: %w: %s", err, out)
	}
	return b, nil
}

var folders []string

// both releases are made once for all tests.
var both = sync.OnceValues(func() ([2]built, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return [2]built{}, err
	}
	first, err := build(root, "one")
	if err != nil {
		return [2]built{}, err
	}
	// Of the clone: the checkout may have got another commit.
	second, err := build(first.clone, "another-place-with-a-longer-name", "TZ=Asia/Tokyo", "LC_ALL=C", "GOFLAGS=-tags=other", "GOAMD64=v3", "SOURCE_DATE_EPOCH=1")
	return [2]built{first, second}, err
})

// release is the first of both.
func release(t *testing.T) built {
	t.Helper()
	b, err := both()
	if err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// file is a published file.
func (b built) file(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(b.dist, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	m.Run()
	for _, dir := range folders {
		_ = os.RemoveAll(dir)
	}
}

func sums(t *testing.T, dist string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dist)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dist, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all
}

func TestTwoBuildsAreIdentical(t *testing.T) {
	b, err := both()
	if err != nil {
		t.Fatal(err)
	}
	one, two := sums(t, b[0].dist), sums(t, b[1].dist)
	for name, sum := range one {
		if two[name] != sum {
			t.Errorf("%s differs: %s and %s", name, sum, two[name])
		}
	}
	if len(one) != len(two) || len(one) < 12 {
		t.Errorf("%d files and %d files, want at least a dozen of both", len(one), len(two))
	}
	t.Logf("figure: %d files of a release, byte for byte the same from two clones", len(one))

	listed, err := os.ReadFile(b[0].file(t, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	check.Dir = b[0].dist
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
	if n := strings.Count(string(listed), "\n"); n != len(one)-1 {
		t.Errorf("SHA256SUMS lists %d files of %d", n, len(one)-1)
	}
}

// provenance is what the test reads of it.
type provenance struct {
	Subject []struct {
		Name   string
		Digest map[string]string
	}
	PredicateType string
	Predicate     struct {
		BuildDefinition struct {
			ResolvedDependencies []struct {
				URI    string
				Digest map[string]string
			}
		}
	}
}

func TestProvenanceNamesEveryFileAndTheCommit(t *testing.T) {
	b := release(t)
	data, err := os.ReadFile(b.file(t, "isthmus_"+version+".provenance.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p provenance
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	all := sums(t, b.dist)
	for _, s := range p.Subject {
		if all[s.Name] != s.Digest["sha256"] {
			t.Errorf("%s: the provenance says %s, it is %s", s.Name, s.Digest["sha256"], all[s.Name])
		}
	}
	if len(p.Subject) != len(all)-2 { // but for itself and the sums
		t.Errorf("the provenance has %d files of %d", len(p.Subject), len(all)-2)
	}
	head, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", b.clone, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(string(head))
	if got := p.Predicate.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"]; got != commit || p.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("commit %s in a %s, want %s", got, p.PredicateType, commit)
	}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		for _, word := range []string{home, b.clone} {
			if strings.Contains(string(data), word) {
				t.Errorf("the provenance names %s of this machine", word)
			}
		}
	}
}

func TestBillOfMaterialsListsEveryModule(t *testing.T) {
	b := release(t)
	for _, program := range []string{"isthmus", "isthmus-source"} {
		binary := extract(t, b, program)
		out, err := exec.CommandContext(t.Context(), "go", "version", "-m", binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
				want = append(want, "pkg:golang/"+f[1]+"@"+f[2])
			}
		}
		data, err := os.ReadFile(b.file(t, program+"_"+version+"_linux_amd64.cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			BomFormat, SpecVersion string
			Components             []struct {
				PURL     string
				Licenses []struct{ Expression string }
			}
		}
		if err := json.Unmarshal(data, &bom); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range bom.Components {
			if len(c.Licenses) == 0 || c.Licenses[0].Expression == "" {
				t.Errorf("%s: %s has no licence", program, c.PURL)
			}
			if !strings.HasPrefix(c.PURL, "pkg:golang/std@") {
				got = append(got, c.PURL)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || len(want) == 0 || bom.BomFormat != "CycloneDX" {
			t.Errorf("%s: the bill has\n%s\nthe binary\n%s", program, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		t.Logf("figure: %s: %d of %d modules in its bill of materials", program, len(got), len(want))
	}
}

// extract takes a program out of its archive.
func extract(t *testing.T, b built, program string) string {
	t.Helper()
	dir := t.TempDir()
	base := program + "_" + version + "_linux_amd64"
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", b.file(t, base+".tar.gz"), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return filepath.Join(dir, base, program)
}
