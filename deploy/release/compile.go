package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// builder is who `isthmus version` and the provenance say made the binary.
const builder = "deploy/release"

// told is what the linker tells the product's binaries of themselves.
func (r *release) told() string {
	const info = module + "/cmd/internal/buildinfo."
	version := r.source.version
	if r.source.modified {
		version += "+modified"
	}
	return strings.Join([]string{
		"-X " + info + "version=v" + version, "-X " + info + "commit=" + r.source.commit,
		"-X " + info + "time=" + r.source.time.Format(time.RFC3339), "-X " + info + "builder=" + builder,
	}, " ")
}

// flags are those of every binary: static, without the paths of this machine, and
// with the commit told by the linker instead of read from the checkout.
func flags(told string) []string {
	return []string{"-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w -buildid= " + told}
}

// environment of the go command: what the machine's own settings would change.
func environment(arch string) []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
}

func (r *release) compile(ctx context.Context, p program, arch string) error {
	return r.goBuild(ctx, r.root, arch, filepath.Join(r.staged(arch), p.name), "./cmd/"+p.name, r.told())
}

// goBuild builds one package of the module in dir.
func (r *release) goBuild(ctx context.Context, dir, arch, to, pkg, told string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", to}, flags(told)...), pkg)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	cmd.Env = environment(arch)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// completions are asked for and installed by these names.
var completions = map[string]string{"bash": "%s.bash", "zsh": "_%s", "fish": "%s.fish"}

// manual writes manual pages and completions, by the command itself.
func (r *release) manual(ctx context.Context, p program, arch string) error {
	bin := filepath.Join(r.staged(arch), p.name)
	if arch != runtime.GOARCH || runtime.GOOS != "linux" {
		return r.copyManual(ctx, p, arch)
	}
	pages := filepath.Join(r.stage, "pages-"+arch)
	if _, err := output(ctx, bin, "man", "--dir", pages); err != nil {
		return err
	}
	if err := compress(pages, filepath.Join(r.staged(arch), "man")); err != nil {
		return err
	}
	dir := filepath.Join(r.staged(arch), "completion")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for shell, name := range completions {
		text, err := output(ctx, bin, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(name, p.name)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyManual has the pages written by a binary that runs here: they are the same.
func (r *release) copyManual(ctx context.Context, p program, arch string) error {
	own := &release{source: r.source, root: r.root, stage: filepath.Join(r.stage, "manual-"+arch)}
	if err := os.MkdirAll(own.staged(runtime.GOARCH), 0o755); err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("manual pages of %s: a release is built on Linux, this is %s", p.name, runtime.GOOS)
	}
	if err := own.compile(ctx, p, runtime.GOARCH); err != nil {
		return err
	}
	if err := own.manual(ctx, p, runtime.GOARCH); err != nil {
		return err
	}
	for _, name := range []string{"man", "completion"} {
		if err := os.CopyFS(filepath.Join(r.staged(arch), name), os.DirFS(filepath.Join(own.staged(runtime.GOARCH), name))); err != nil {
			return err
		}
	}
	return nil
}

func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", filepath.Base(name), args[0], err)
	}
	return out, nil
}

// compress writes each page as Debian wants it, without a time.
func compress(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	pages, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(from, page.Name()))
		if err != nil {
			return err
		}
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, page.Name()+".gz"), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
