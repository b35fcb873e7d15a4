package cli

import (
	"fmt"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/gateway/switches"
)

func newGateway() *cobra.Command {
	c := &cobra.Command{
		Use:   "gateway",
		Short: "Set the switches of a gateway of this host",
		Long:  "What an operator sets at one gateway by hand, on its host. No other process is needed.",
		Args:  exactArgs(),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newSwitch())
	return c
}

// switching are the flags of all switches.
type switching struct {
	path, dir, reason string
	off               bool
}

func newSwitch() *cobra.Command {
	k := &switching{}
	c := &cobra.Command{
		Use:   "switch",
		Short: "Show the switches of a gateway, or set one",
		Long: `Show the switches of the gateway of this host, or set one: freeze, pin, failover-off.

They are a file in the gateway's data directory, which the gateway looks at each second;
no other process is needed, not even the gateway. They survive restarts, hold until they
are taken back by --off, and are told by isthmus status, isthmus explain, /readyz, the
metric isthmus_gateway_switch and once a minute by the log.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return k.show(c) },
	}
	f := c.PersistentFlags()
	configFlag(c, &k.path)
	c.PersistentFlags().AddFlag(c.Flags().Lookup("config"))
	f.StringVar(&k.dir, "data-dir", "", "the gateway's data directory, instead of a configuration file")
	set := func(use, short, long string, names []string, change func(s *switches.State, on *switches.Set, args []string)) {
		one := &cobra.Command{
			Use: use, Short: short, Long: long,
			Args: func(c *cobra.Command, args []string) error {
				if k.off {
					return exactArgs()(c, args)
				}
				return exactArgs(names...)(c, args)
			},
			RunE: func(c *cobra.Command, args []string) error { return k.set(c, args, change) },
		}
		one.Flags().StringVar(&k.reason, "reason", "", "why; it is told wherever the switch is")
		one.Flags().BoolVar(&k.off, "off", false, "take the switch back")
		c.AddCommand(one)
	}
	set("freeze", "Keep the present route table",
		`Keep the present route table: nothing that the federation says from now on applies, but
intentions that deny, and the keys of peers, without which links would end. What merely
is no longer there (an export, a peer, an intention that allows) stays as it was. What the
gateway itself sees still counts: dead links and endpoints are left alone. With --off the
newest table applies at once.`, nil,
		func(s *switches.State, on *switches.Set, _ []string) { s.Freeze = on })
	set("pin PLACE", "Send calls to one cluster, region or cloud",
		`Send the calls of this gateway's callers to one place: a cluster, a region (CLOUD/REGION)
or a cloud. Services that the place does not have are routed as ever, and what traffic
policies rule out (residency, pins) stays out.`, []string{"PLACE"},
		func(s *switches.State, on *switches.Set, args []string) {
			if s.Pin = nil; on != nil {
				s.Pin = &switches.Pin{Set: *on, Place: args[0]}
			}
		})
	set("failover-off", "Keep calls in the clusters of their first tier",
		`Keep calls in the clusters of their first tier: where these cannot serve, calls fail
instead of going to others.`, nil,
		func(s *switches.State, on *switches.Set, _ []string) { s.FailoverOff = on })
	return c
}

// folder is the data directory of the gateway.
func (k *switching) folder() (string, error) {
	if k.dir != "" {
		return k.dir, nil
	}
	cfg, err := config.Load(k.path)
	if err != nil {
		return "", err
	}
	if cfg.Gateway == nil {
		return "", usageError{fmt.Errorf("%s: has no gateway", k.path)}
	}
	return cfg.Gateway.DataDir, nil
}

func (k *switching) set(c *cobra.Command, args []string, change func(*switches.State, *switches.Set, []string)) error {
	dir, err := k.folder()
	if err != nil {
		return err
	}
	s, _, err := switches.Load(dir)
	if err != nil {
		return fmt.Errorf("%w: remove the file %s/switches by hand to begin anew", err, dir)
	}
	var on *switches.Set
	if !k.off {
		on = &switches.Set{By: me(), Reason: k.reason, At: time.Now().UTC().Round(time.Second)}
	}
	change(&s, on, args)
	if err := s.Validate(); err != nil {
		return usageError{err}
	}
	if err := switches.Save(dir, s); err != nil {
		return err
	}
	return k.show(c)
}

func (k *switching) show(c *cobra.Command) error {
	dir, err := k.folder()
	if err != nil {
		return err
	}
	s, damage, err := switches.Load(dir)
	if err != nil {
		return err
	}
	text := s.String()
	if text == "" {
		text = "all switches are off"
	}
	if damage != nil {
		text += fmt.Sprintf(" (a half of the file is damaged: %v)", damage)
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), text)
	return err
}

// me is who runs the command.
func me() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%s (uid %s)", u.Username, u.Uid)
}
