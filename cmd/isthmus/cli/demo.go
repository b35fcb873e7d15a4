package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run three clusters on this machine and watch calls cross them",
		Long: `Run three clusters in two trust domains on this machine, each process its own,
with a simulated distance between them, and watch calls while you kill parts of it.
Needs no network and no privileges. Nothing is restarted by itself.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.RTT < 0 || o.RTT > time.Second {
				return usageError{fmt.Errorf("--rtt %s: must be between 0 and 1s", o.RTT)}
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the program to run: %w", err)
			}
			o.Binary, o.Out = binary, c.OutOrStdout()
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "", "folder for configuration, state and logs (default: a temporary one, removed at the end)")
	c.Flags().DurationVar(&o.RTT, "rtt", demo.DefaultRTT, "simulated round trip between the two nearest clusters; the third is 3 and 5 times as far from them")
	c.Flags().BoolVar(&o.NoLive, "no-live", false, "print one line when ready, then keep quiet")
	c.AddCommand(newDemoStart(), newDemoService())
	return c
}

func newDemoStart() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "start NAME",
		Short: "Start a killed process of a running demo again",
		Long: `Start a killed process of a running demo again. NAME is a process
(aws-us-east-1/billing), a whole cluster (aws-us-east-1) or a bare name (billing):
whatever of it does not run is started.`,
		Args: exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if dir == "" {
				return usageError{errors.New("--dir is needed: the folder of the running demo")}
			}
			started, err := demo.StartProcess(c.Context(), dir, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "started "+strings.Join(started, "\nstarted "))
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder of the running demo")
	return c
}

// newDemoService is what the demo's service processes run.
func newDemoService() *cobra.Command {
	var o demo.ServiceOptions
	var listen string
	c := &cobra.Command{
		Use:    "service",
		Short:  "Run one of the demo's small HTTP services",
		Hidden: true,
		Args:   exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := netip.ParseAddrPort(listen)
			if err != nil {
				return usageError{fmt.Errorf("--listen %q: must be ip:port", listen)}
			}
			o.Listen = a
			o.Answer.Instance = fmt.Sprintf("%s-%s-%d", o.Answer.Service, o.Answer.Cluster, os.Getpid())
			return demo.RunService(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Answer.Service, "name", "", "service name")
	c.Flags().StringVar(&o.Answer.Cluster, "cluster", "", "cluster name")
	c.Flags().StringVar(&o.Answer.Zone, "zone", "", "zone")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "ip:port")
	return c
}
