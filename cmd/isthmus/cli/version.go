package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/internal/buildinfo"
)

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Long: `Say which build this is: version, commit, builder, Go and platform.

With --json also how it was built, and every module that was compiled in with its
checksum. A release's provenance file (isthmus_VERSION.provenance.json) says the same
of all its files, with their digests.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			b := buildinfo.Read()
			if asJSON {
				return printJSON(c.OutOrStdout(), b)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "isthmus %s %s %s\n", b.Version, b.Go, b.Platform)
			if err == nil && b.Commit != "" {
				_, err = fmt.Fprintf(c.OutOrStdout(), "commit %s of %s, built by %s\n", b.Commit, b.Source, b.Builder)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with flags and modules")
	return c
}
