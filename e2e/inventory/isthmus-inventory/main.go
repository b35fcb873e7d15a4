// Command isthmus-inventory prints an inventory for Isthmus.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/exec"
	"github.com/isthmus-mesh/isthmus/e2e/inventory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: isthmus-inventory URL")
		os.Exit(2)
	}
	err := exec.Serve(ctx, exec.ServeOptions{
		Source: inventory.New("inventory", os.Args[1], 10*time.Second),
		Out:    os.Stdout, In: os.Stdin,
	})
	if err != nil && !errors.Is(err, exec.ErrParentGone) {
		fmt.Fprintln(os.Stderr, err) // goes into the federation's log
		os.Exit(1)
	}
}
