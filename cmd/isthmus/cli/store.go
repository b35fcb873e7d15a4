package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation"
)

func newStore() *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Begin the store of a new cluster in Consul",
		Long:  "The store holds peers, policies and their history: in a file, or in Consul for several replicas.",
		Args:  exactArgs(),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStoreInitialize())
	return c
}

func newStoreInitialize() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "initialize",
		Short: "Say that a cluster with its store in Consul is new",
		Long: `Begin an empty store in Consul, below the prefix that the configuration file names: once
in the life of a cluster, before its first federation starts.

A federation does not begin one by itself. It cannot tell a new cluster from one whose
policies were cleared in Consul, and would hand its gateways and peers a table without
any. A store that is there stays as it is, so that the command can be repeated. Without
federation.store.consul there is nothing to do: a file is begun by itself.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if cfg.Federation == nil || cfg.Federation.Store.Consul == nil {
				return errors.New("federation.store.consul: is not set, so that there is nothing to initialize")
			}
			began, prefix, err := federation.InitializeStore(c.Context(), catalog.ClusterName(cfg.Cluster.Name), cfg.Federation.Store)
			if err != nil {
				return err
			}
			if !began {
				_, err = fmt.Fprintf(c.OutOrStdout(), "the store below %s/ is there already, and stays as it is\n", prefix)
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "an empty store begins below %s/\n", prefix)
			return err
		},
	}
	configFlag(c, &path)
	return c
}
