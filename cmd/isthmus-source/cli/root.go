package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/internal/buildinfo"
)

// The exit codes of the command.
const (
	exitOK      = 0
	exitFailure = 1
)

// Run executes the command line and returns the process's exit code: 0, or 1 for
// a failure.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(stderr, "isthmus-source: %v\n", err)
		return exitFailure
	}
	return exitOK
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus-source",
		Short: "Read services from a cloud or Kubernetes and print them for the federation service",
		Long: `Read services from a cloud's API or from Kubernetes, and print them as JSON lines.
The federation service runs this command as a source:

  federation:
    sources:
      - exec: {name: aws, command: [isthmus-source, aws, --config, /etc/isthmus/aws.yaml]}

By hand it shows what would be read. It ends with its standard input, which it takes
for its parent's life; keep that open:

  sleep infinity | isthmus-source aws --config aws.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, k := range kinds() {
		root.AddCommand(k.command())
	}
	root.AddCommand(newKubernetesSync(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b := buildinfo.Read()
			_, err := fmt.Fprintf(c.OutOrStdout(), "isthmus-source %s %s %s\n", b.Version, b.Go, b.Platform)
			return err
		},
	}
}
