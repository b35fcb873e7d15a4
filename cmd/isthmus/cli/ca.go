package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/internal/buildinfo"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/process"
)

func newCA() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Run the embedded certificate authority of a trust domain",
		Long: `Run the embedded certificate authority of a trust domain: a SPIFFE Workload API
server, for the demo and small set-ups. Where SPIRE runs, point
identity.workload_api at its agent instead; nothing else differs.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCAServe(), newCAToken(), newCAHosts(), newCARevoke(), newCAAgent())
	return c
}

func newCAServe() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the SPIFFE Workload API on a Unix socket",
		Long: `Serve the SPIFFE Workload API on a Unix socket until SIGTERM. The entries of the
file say which SPIFFE ID a user's processes get; the kernel says who asks. An example:

  trust_domain: aws.example.org
  dir: /var/lib/isthmus/ca
  socket: /run/isthmus/ca.sock
  bundle_file: /var/lib/isthmus/ca.bundle.json   # for the other trust domains' peers
  entries:
    - {id: spiffe://aws.example.org/isthmus/cluster/aws-us-east-1, uid: 990}
    - {id: spiffe://aws.example.org/isthmus/cluster/aws-us-east-1/gateway/gw1, uid: 990}

A process with both roles needs both IDs, so that both entries name its user.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.LoadCA(path)
			if err != nil {
				return err
			}
			log := newLogger(c.ErrOrStderr(), cfg.Log)
			context.AfterFunc(c.Context(), func() {
				log.Info("stopping", "reason", context.Cause(c.Context()))
			})
			return process.RunCA(c.Context(), cfg, log, buildinfo.Read().Version)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", caConfigPath, "configuration file")
	return c
}
