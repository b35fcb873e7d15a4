package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/process"
)

func newUpgrade() *cobra.Command {
	var path string
	var within time.Duration
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running gateway of this host, cutting nothing",
		Long: `Start the program that now lies at the running gateway's path, with the configuration
file as it is now, and change over when it is ready: it has an identity, a route table and
a link to each cluster to which the gateway has one. It takes over every listener and all
new links, at the same ports; the process before finishes what it carries, for at most
gateway.drain_timeout, and goes. No connection is refused, none is cut.

A successor that fails, ends or is not ready in time is ended, with the reason here and in
the log, and the running gateway serves on. The file may change all but the gateway's name,
its cluster and listen.link. It needs Linux, the gateway's user, and a gateway in a process
of its own. SIGUSR2 to the gateway does the same, and says how it went in the log.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(path) // what the successor would refuse
			if err != nil {
				return err
			}
			if cfg.Gateway == nil {
				return usageError{fmt.Errorf("%s: has no gateway", path)}
			}
			if within <= 0 {
				return usageError{fmt.Errorf("--within: %s: must be above 0", within)}
			}
			done, err := process.AskUpgrade(c.Context(), cfg.Gateway.DataDir, within)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "process %d serves (generation %d), process %d finishes what it carries\n", done.PID, done.Generation, done.Finishing)
			return err
		},
	}
	configFlag(c, &path)
	c.Flags().DurationVar(&within, "within", process.DefaultUpgradeTimeout, "how long the successor may take to be ready")
	return c
}
