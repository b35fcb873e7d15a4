package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-source/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
