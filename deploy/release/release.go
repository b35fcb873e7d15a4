package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// module is the product's.
const module = "github.com/isthmus-mesh/isthmus"

// program is one command that is released.
type program struct {
	name string
	// manual says that it writes manual pages and completions.
	manual bool
}

var known = map[string]program{
	"isthmus":        {name: "isthmus", manual: true},
	"isthmus-source": {name: "isthmus-source"},
}

// release is one build of everything.
type release struct {
	source   source
	root     string // the checkout
	stage    string // a folder of this build's own
	archs    []string
	programs []program
}

func (r *release) dist() string { return filepath.Join(r.stage, "dist") }

// name of a published file: isthmus_1.2.3_rest.
func (r *release) file(program, rest string) string {
	return filepath.Join(r.dist(), program+"_"+r.source.version+rest)
}

// staged is a folder for what goes into the packages of an architecture.
func (r *release) staged(arch string) string { return filepath.Join(r.stage, arch) }

func (r *release) build(ctx context.Context) error {
	if err := os.Mkdir(r.dist(), 0o755); err != nil {
		return err
	}
	for _, arch := range r.archs {
		if err := r.buildArch(ctx, arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	for _, step := range []func(context.Context) error{r.image, r.chart, r.provenance, r.sums} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) buildArch(ctx context.Context, arch string) error {
	if err := os.Mkdir(r.staged(arch), 0o755); err != nil {
		return err
	}
	for _, p := range r.programs {
		if err := r.compile(ctx, p, arch); err != nil {
			return err
		}
		if err := r.materials(ctx, p, arch); err != nil {
			return err
		}
		if p.manual {
			if err := r.manual(ctx, p, arch); err != nil {
				return err
			}
		}
		if err := r.archive(p, arch); err != nil {
			return err
		}
		if err := r.packages(p, arch); err != nil {
			return err
		}
	}
	return r.provider(ctx, arch)
}

// published lists the files of the release, without the sums.
func (r *release) published() ([]string, error) {
	entries, err := os.ReadDir(r.dist())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Name() != marker {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// sums writes the checksums of all files, in sha256sum's format.
func (r *release) sums(context.Context) error {
	names, err := r.published()
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range names {
		sum, err := digest(filepath.Join(r.dist(), name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(r.dist(), marker), []byte(b.String()), 0o644)
}

// digest is the SHA-256 of a file, in hexadecimal.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
