package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes of the command.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in flags or arguments.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Run executes the command line and returns the process's exit code: 0, 1 for a
// failure, 2 for a mistake in the arguments.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "isthmus: %v\n", err)
	dial, isDial := errors.AsType[*net.OpError](err)
	if api := c.Flags().Lookup("api"); api != nil && isDial && dial.Op == "dial" {
		_, _ = fmt.Fprintf(stderr, "Nothing answers at %s. Does the federation run, and is this its API (--api)?\n", api.Value)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus",
		Short: "Join the service networks of clouds and data centres into one",
		Long: `Isthmus joins the service networks of clouds and data centres into one.

Each cluster runs gateways, which carry calls through mutually authenticated QUIC
tunnels, and a federation service, which merges what the cluster's own sources
know, shares what policy allows, and tells the gateways where calls may go.

See it work on this machine:  isthmus demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          exactArgs(),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(), newValidate(), newDemo(), newCA(), newVersion(),
		newStatus(), newServices(), newLinks(), newExplain(), newSimulate(), newDrill(), newSpend(), newGateway(), newUpgrade(), newCheck(),
		newPeer(), newPolicy(), newExport(), newImport(), newApply(), newDiff(), newHistory(), newAudit(), newStore(), newMan())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			// cobra's own shows its help for a shell that it does not know.
			c.Args, c.RunE = exactArgs(), func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	return root
}

// exactArgs is cobra.ExactArgs with an error that names what is expected.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(args) > 0 && c.HasAvailableSubCommands():
			return usageError{fmt.Errorf("%s has no command %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())}
		case len(names) == 0:
			return usageError{fmt.Errorf("%s takes no arguments, got %q", c.CommandPath(), args)}
		default:
			return usageError{fmt.Errorf("%s takes %s, got %d arguments", c.CommandPath(), strings.Join(names, " "), len(args))}
		}
	}
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
