package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	syscall.Umask(0o022) // modes of files are part of the result
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run builds into a folder beside out, which it replaces only when all is done.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	out := flags.String("out", "dist", "folder to write, replaced if it is one of this command's")
	version := flags.String("version", "", "semantic version; default: the tag of the commit, else 0.0.0-dev.N")
	archs := flags.String("arch", "amd64,arm64", "architectures, separated by commas")
	programs := flags.String("programs", "isthmus,isthmus-source", "programs, separated by commas")
	dirty := flags.Bool("dirty", false, "build also from a work tree that differs from its commit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := checkout(ctx)
	if err != nil {
		return err
	}
	src, err := describe(ctx, root, *version, *dirty)
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "isthmus-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(stage) }()
	r := &release{source: src, root: root, stage: stage, archs: strings.Split(*archs, ",")}
	for _, name := range strings.Split(*programs, ",") {
		p, ok := known[name]
		if !ok {
			return fmt.Errorf("-programs: %q is none; there are isthmus and isthmus-source", name)
		}
		r.programs = append(r.programs, p)
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	return replace(r.dist(), *out)
}

// marker is a file that each release has: a folder without it is not replaced.
const marker = "SHA256SUMS"

// replace puts the folder built in the place of out.
func replace(built, out string) error {
	if _, err := os.Stat(out); err == nil {
		if _, err := os.Stat(filepath.Join(out, marker)); err != nil {
			return fmt.Errorf("-out: %s exists and is no release (it has no %s)", out, marker)
		}
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.CopyFS(out, os.DirFS(built))
}
