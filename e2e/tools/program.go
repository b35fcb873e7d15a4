package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// ErrUnknown says that no nested module has a tool line for a name.
var ErrUnknown = errors.New("unknown program")

// Program is one thing that a nested module can build.
type Program struct {
	// Name is the last element of Package; it names the binary too.
	Name string
	// Package is the import path of the main package.
	Package string
	// Module is the folder of the nested module that pins it.
	Module string
}

// Programs lists what the nested modules under dir can build, in the order of
// their folders and tool lines.
func Programs(ctx context.Context, dir string) ([]Program, error) {
	mods, err := filepath.Glob(filepath.Join(dir, "*", "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("list nested modules: %w", err)
	}
	var all []Program
	for _, mod := range mods {
		pkgs, err := toolLines(ctx, mod)
		if err != nil {
			return nil, err
		}
		for _, pkg := range pkgs {
			all = append(all, Program{Name: path.Base(pkg), Package: pkg, Module: filepath.Dir(mod)})
		}
	}
	return all, nil
}

// toolLines asks the go command rather than parsing go.mod a second way.
func toolLines(ctx context.Context, mod string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "mod", "edit", "-json", mod).Output()
	if err != nil {
		return nil, fmt.Errorf("read tool lines of %s: %w", mod, err)
	}
	var parsed struct{ Tool []struct{ Path string } }
	if err := json.Unmarshal(out, &parsed); err != nil {
		return nil, fmt.Errorf("read tool lines of %s: %w", mod, err)
	}
	pkgs := make([]string, len(parsed.Tool))
	for i, tool := range parsed.Tool {
		pkgs[i] = tool.Path
	}
	return pkgs, nil
}

// find returns the program called name.
func find(ctx context.Context, dir, name string) (Program, error) {
	all, err := Programs(ctx, dir)
	if err != nil {
		return Program{}, err
	}
	known := make([]string, len(all))
	for i, p := range all {
		if p.Name == name {
			return p, nil
		}
		known[i] = p.Name
	}
	return Program{}, fmt.Errorf("%w %q: the modules in %s pin %s", ErrUnknown, name, dir, strings.Join(known, ", "))
}

// Dir finds e2e/tools of the checkout that holds the working directory, which
// for a test is its package's folder.
func Dir() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find e2e/tools: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		tools := filepath.Join(dir, "e2e", "tools")
		if _, err := os.Stat(filepath.Join(tools, "program.go")); err == nil {
			return tools, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find e2e/tools: %s is not inside a checkout", wd)
		}
	}
}
