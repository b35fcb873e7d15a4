// Command build builds pinned programs of e2e/tools into the cache, unless they
// are there already, and prints the path of each on a line:
//
//	go run ./e2e/tools/build consul
//
// Without arguments it lists what it can build. Progress goes to standard error.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, stdout, stderr io.Writer) error {
	if len(names) == 0 {
		return list(ctx, stdout)
	}
	b, err := tools.New(tools.Options{Progress: stderr})
	if err != nil {
		return err
	}
	for _, name := range names {
		bin, err := b.Build(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, bin)
	}
	return nil
}

func list(ctx context.Context, stdout io.Writer) error {
	dir, err := tools.Dir()
	if err != nil {
		return err
	}
	all, err := tools.Programs(ctx, dir)
	for _, p := range all {
		fmt.Fprintf(stdout, "%-16s %s\n", p.Name, p.Package)
	}
	return err
}
