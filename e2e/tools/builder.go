package tools

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNotBuilt says that a program is pinned but not in the cache.
var ErrNotBuilt = errors.New("not built yet")

// optimized names the one nested module whose programs are run far more often
// than built. All others hold peers, which idle through a scenario: for these a
// third of the compile time is worth more than their speed.
const optimized = "lint"

// withC names the one nested module that needs a C compiler: SPIRE's server keeps
// its registrations in SQLite, whose driver is C. Its agent is built alike, so
// that both share what they compile.
const withC = "spire"

// Options configures a Builder.
type Options struct {
	// Dir is the e2e/tools folder; empty means that of this checkout.
	Dir string
	// Cache is the folder above isthmus/peers; empty means ISTHMUS_CACHE, else
	// the user's cache folder.
	Cache string
	// Progress receives what is built and the compiler's output; nil discards.
	Progress io.Writer
}

// Builder builds pinned programs into the cache.
type Builder struct {
	dir, cache string
	progress   io.Writer
}

// New returns a Builder. It reads the environment only for empty options.
func New(o Options) (*Builder, error) {
	b := &Builder{dir: o.Dir, cache: cmp.Or(o.Cache, os.Getenv("ISTHMUS_CACHE")), progress: o.Progress}
	if b.progress == nil {
		b.progress = io.Discard
	}
	var err error
	if b.dir == "" {
		if b.dir, err = Dir(); err != nil {
			return nil, err
		}
	}
	if b.cache == "" {
		if b.cache, err = os.UserCacheDir(); err != nil {
			return nil, fmt.Errorf("find a cache folder (ISTHMUS_CACHE names one): %w", err)
		}
	}
	b.cache, err = filepath.Abs(filepath.Join(b.cache, "isthmus", "peers"))
	return b, err
}

// Lookup returns the path of a program that is in the cache, or ErrNotBuilt.
func (b *Builder) Lookup(ctx context.Context, name string) (string, error) {
	p, err := find(ctx, b.dir, name)
	if err != nil {
		return "", err
	}
	bin, err := b.path(ctx, p)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(bin); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w (looked for %s)", name, ErrNotBuilt, bin)
	} else if err != nil {
		return "", fmt.Errorf("look up %s: %w", name, err)
	}
	return bin, nil
}

// Build returns the path of a program and builds it first where the cache lacks
// it, which takes minutes of CPU for a peer. Concurrent calls, in other
// processes too, wait for the one that builds.
func (b *Builder) Build(ctx context.Context, name string) (string, error) {
	if bin, err := b.Lookup(ctx, name); !errors.Is(err, ErrNotBuilt) {
		return bin, err
	}
	p, err := find(ctx, b.dir, name)
	if err != nil {
		return "", err
	}
	bin, err := b.path(ctx, p)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	unlock, err := lock(ctx, filepath.Dir(bin)+".lock")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer unlock()
	if _, err := os.Stat(bin); err == nil {
		return bin, nil // another process built it while this one waited
	}
	return bin, b.compile(ctx, p, bin)
}

// compile builds into a folder beside the final one and renames it, so that a
// reader never sees half a binary and a killed build leaves nothing behind that
// looks finished.
func (b *Builder) compile(ctx context.Context, p Program, bin string) error {
	tmp, err := os.MkdirTemp(b.cache, "."+p.Name+"-")
	if err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	fmt.Fprintf(b.progress, "building %s, pinned by %s/go.mod\n", p.Package, p.Module)

	args := append([]string{"build", "-o", filepath.Join(tmp, p.Name)}, flags(p)...)
	// GOGC trades memory, of which a build machine has plenty, for a quarter of
	// the compile time.
	cmd := exec.CommandContext(ctx, "go", append(args, p.Package)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Module, b.progress, b.progress
	cmd.Env = append(append(os.Environ(), environment(p)...), "GOGC=400")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s in %s: %w", p.Package, p.Module, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	if err := os.Rename(tmp, filepath.Dir(bin)); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	return nil
}

// flags are part of the key. -trimpath keeps the build machine's folders out of
// the binary and lets checkouts in different places share the compiler's cache.
func flags(p Program) []string {
	all := []string{"-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"}
	if filepath.Base(p.Module) != optimized {
		all = append(all, "-gcflags=all=-N -l")
	}
	return all
}

// environment overrides what would change the result behind the key's back, and
// makes do without a C compiler where it can.
func environment(p Program) []string {
	c := "CGO_ENABLED=0"
	if filepath.Base(p.Module) == withC {
		c = "CGO_ENABLED=1"
	}
	return []string{c, "GOFLAGS=", "GOWORK=off"}
}

// path is where a program lies once built.
func (b *Builder) path(ctx context.Context, p Program) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, p.Package, flags(p), environment(p))

	target := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	target.Dir = p.Module // a go.mod may select another toolchain
	out, err := target.Output()
	if err != nil {
		return "", fmt.Errorf("ask for the Go version: %w", err)
	}
	sum.Write(out)

	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(p.Module, name))
		if errors.Is(err, fs.ErrNotExist) && name == "go.sum" {
			continue // a module without dependencies has none
		}
		if err != nil {
			return "", fmt.Errorf("key of %s: %w", p.Name, err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	key := hex.EncodeToString(sum.Sum(nil))[:16]
	return filepath.Join(b.cache, p.Name+"-"+key, p.Name), nil
}
