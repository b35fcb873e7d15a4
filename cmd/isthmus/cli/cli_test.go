package cli_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"isthmus": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			context.AfterFunc(ctx, stop)
			os.Exit(cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // this is main of the command under test
		},
	})
}

// Each script is a session at the command line: what is typed, what is printed,
// which exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
