package apply

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

const (
	// maxFiles bounds a folder, maxFile one file: enough for policy.MaxRules of
	// each kind, little enough that a wrong folder is found out at once.
	maxFiles = 1000
	maxFile  = 16 << 20
)

// Document is what one file may hold: the policy keys of a configuration file's
// federation section.
type Document struct {
	Peers      []policy.Peer      `json:"peers,omitempty" yaml:"peers"`
	Exports    []policy.Export    `json:"exports,omitempty" yaml:"exports"`
	Imports    []policy.Import    `json:"imports,omitempty" yaml:"imports"`
	Intentions []policy.Intention `json:"intentions,omitempty" yaml:"intentions"`
	Traffic    []policy.Traffic   `json:"traffic_policies,omitempty" yaml:"traffic_policies"`
}

// Len counts the rules.
func (d *Document) Len() int {
	n := 0
	for _, k := range table {
		n += k.count(d)
	}
	return n
}

// Rules takes the document apart.
func (d *Document) Rules() (map[Key]Fields, error) {
	out := make(map[Key]Fields, d.Len())
	var errs []error
	for _, k := range table {
		errs = append(errs, k.rules(d, out))
	}
	return out, errors.Join(errs...)
}

// Read reads the rules of files and folders (their *.yaml and *.yml, without
// subfolders); "-" is stdin. Every problem of every file is reported at once, each
// with its place; a rule that two files hold is one.
func Read(paths []string, stdin io.Reader) (map[Key]Fields, error) {
	files, err := list(paths)
	if err != nil {
		return nil, err
	}
	want := map[Key]Fields{}
	from := map[Key]string{}
	var problems []error
	for _, path := range files {
		doc, err := readFile(path, stdin)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rules, err := doc.Rules()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", path, err))
		}
		for k, f := range rules {
			if first, twice := from[k]; twice {
				problems = append(problems, fmt.Errorf("%s: %s: is in %s, too", path, k, first))
				continue
			}
			want[k], from[k] = f, path
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return want, nil
}

// list names the files behind paths.
func list(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		if path == "-" {
			out = append(out, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		found := 0
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
				continue
			}
			found++
			out = append(out, filepath.Join(path, e.Name()))
		}
		if found == 0 {
			return nil, fmt.Errorf("%s: has no .yaml or .yml file", path)
		}
	}
	if len(out) > maxFiles {
		return nil, fmt.Errorf("%d files: at most %d are read", len(out), maxFiles)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func readFile(path string, stdin io.Reader) (*Document, error) {
	from, name := stdin, "stdin"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		from, name = f, path
	}
	data, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: has more than %d bytes", name, maxFile)
	}
	var d Document
	err = strictyaml.DecodeValid(name, data, &d, func() error {
		set := policy.Set{Exports: d.Exports, Imports: d.Imports, Intentions: d.Intentions, Traffic: d.Traffic}
		return errors.Join(policy.ValidatePeers(d.Peers), set.Validate())
	})
	if err != nil {
		return nil, err
	}
	return &d, nil
}
