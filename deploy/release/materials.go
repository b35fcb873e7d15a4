package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// dependency is one module of a binary, with its texts.
type dependency struct {
	path, version, sum string
	licences           []licence
}

// materials writes what a binary is made of: the bill of materials (CycloneDX 1.6) and
// the licences of everything in it, which must go along with it.
func (r *release) materials(ctx context.Context, p program, arch string) error {
	bin := filepath.Join(r.staged(arch), p.name)
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		return fmt.Errorf("read the modules of %s: %w", p.name, err)
	}
	deps, err := r.dependencies(ctx, info.Deps)
	if err != nil {
		return err
	}
	sum, err := digest(bin)
	if err != nil {
		return err
	}
	bom := r.bom(p, arch, sum, info, deps)
	var b bytes.Buffer
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.staged(arch), p.name+".cdx.json"), b.Bytes(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(r.file(p.name, "_linux_"+arch+".cdx.json"), b.Bytes(), 0o644); err != nil {
		return err
	}
	text, err := r.copyright(deps)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.staged(arch), p.name+".copyright"), text, 0o644)
}

// dependencies finds the texts of the modules, in the module cache.
func (r *release) dependencies(ctx context.Context, all []*debug.Module) ([]dependency, error) {
	args := []string{"mod", "download", "-json"}
	for _, m := range all {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: a release is made of what its modules say", m.Path)
		}
		args = append(args, m.Path+"@"+m.Version)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = r.root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find the modules: %w", err)
	}
	dirs := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("find the modules: %w", err)
		}
		dirs[m.Path] = m.Dir
	}
	var deps []dependency
	var unknown []error
	for _, m := range all {
		d := dependency{path: m.Path, version: m.Version, sum: m.Sum}
		if d.licences, err = licences(dirs[m.Path]); err != nil {
			unknown = append(unknown, fmt.Errorf("%s %s: %w", m.Path, m.Version, err))
		}
		deps = append(deps, d)
	}
	slices.SortFunc(deps, func(a, b dependency) int { return strings.Compare(a.path, b.path) })
	return deps, errors.Join(unknown...)
}

func (r *release) bom(p program, arch, sum string, info *debug.BuildInfo, deps []dependency) *cdx.BOM {
	const product = "pkg:golang/" + module
	bom := cdx.NewBOM()
	ref := product + "@v" + r.source.version + "#cmd/" + p.name
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.source.time.Format("2006-01-02T15:04:05Z"),
		Component: &cdx.Component{
			BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: p.name, Version: r.source.version, PackageURL: ref,
			Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
			Licenses: &cdx.Licenses{{Expression: "Apache-2.0"}},
			Properties: &[]cdx.Property{
				{Name: "isthmus:commit", Value: r.source.commit}, {Name: "isthmus:platform", Value: "linux/" + arch},
			},
		},
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	components := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + goVersion, Type: cdx.ComponentTypeLibrary, Name: "std", Version: goVersion,
		PackageURL: "pkg:golang/std@" + goVersion, Licenses: &cdx.Licenses{{Expression: "BSD-3-Clause"}},
	}}
	for _, d := range deps {
		purl := "pkg:golang/" + d.path + "@" + d.version
		components = append(components, cdx.Component{
			BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: d.path, Version: d.version, PackageURL: purl,
			Licenses:   &cdx.Licenses{{Expression: expression(d.licences)}},
			Properties: &[]cdx.Property{{Name: "go:sum", Value: d.sum}},
		})
	}
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	bom.Components, bom.Dependencies = &components, &[]cdx.Dependency{{Ref: ref, Dependencies: &refs}}
	return bom
}
