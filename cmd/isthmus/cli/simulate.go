package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/apply"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

// simulateFlags are those of the command simulate.
type simulateFlags struct {
	connection
	down, capacity, policies []string
	from, record, prices     string
}

func newSimulate() *cobra.Command {
	k := &simulateFlags{}
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Say what would become of calls if clusters, regions or clouds died",
		Long: `Say what would become of the calls of this cluster's callers if clusters, regions or
clouds died (--down), lost a part of their endpoints (--capacity), or were led by other
traffic policies (--policy) or other prices (--prices): where calls would go at once and
once it has settled, how long they would take, what each cluster would carry, what it
would cost a month, whose calls would be shed, and what would break. It changes nothing.

The demand is that of the last minute, as the cluster's own gateways saw it, or that of
a recording (--from), which --record writes. What callers of other clusters do is known
to their federations: ask those, too.`,
		Example: `  isthmus simulate --down gcp-us-central1
  isthmus simulate --down aws/us-east-1 --capacity gcp-europe-west1=50%
  isthmus simulate --prices next-year.yaml --policy rules/
  isthmus simulate --record monday.json
  isthmus simulate --from monday.json --down aws --json`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return k.run(c) },
	}
	k.flags(c)
	f := c.Flags()
	f.StringSliceVar(&k.down, "down", nil, "a cluster, region (CLOUD/REGION) or cloud that is dead; may be given more than once")
	f.StringSliceVar(&k.capacity, "capacity", nil, "what is left of a place: PLACE=SHARE, such as gcp-us-central1=50%")
	f.StringSliceVar(&k.policies, "policy", nil, "a file or folder of traffic policies, as isthmus apply reads it, that hold instead")
	f.StringVar(&k.prices, "prices", "", "a price book that holds instead of federation.price_book")
	f.StringVar(&k.from, "from", "", "simulate with this recording; nobody is asked")
	f.StringVar(&k.record, "record", "", "write what a simulation starts from to this file")
	return c
}

func (k *simulateFlags) run(c *cobra.Command) error {
	request := resource.SimulateRequest{Down: k.down, Capacity: k.capacity}
	switch {
	case k.record != "" && k.from != "":
		return usageError{errors.New("--record and --from: a recording is either written or read")}
	case k.record == "" && len(k.down)+len(k.capacity)+len(k.policies)+len(k.prices) == 0:
		return usageError{errors.New("suppose something: --down, --capacity, --policy or --prices (or --record a file)")}
	}
	if len(k.policies) > 0 {
		var err error
		if request.TrafficPolicies, err = readTraffic(k.policies, c.InOrStdin()); err != nil {
			return err
		}
	}
	if k.prices != "" {
		data, err := os.ReadFile(k.prices)
		if err == nil {
			request.Prices, err = pricebook.Read(k.prices, data)
		}
		if err != nil {
			return usageError{err}
		}
	}
	change, err := simulate.ChangeOf(&request)
	if err != nil {
		return usageError{err}
	}
	if k.from != "" {
		data, err := os.ReadFile(k.from)
		if err != nil {
			return err
		}
		rec, err := simulate.Read(data)
		if err != nil {
			return fmt.Errorf("%s: %w", k.from, err)
		}
		return k.print(c, simulate.Simulate(rec, change, 0))
	}
	api, end, err := k.open(c.Context())
	if err != nil {
		return err
	}
	defer end()
	if k.record != "" {
		rec, err := api.Recording(c.Context())
		if err != nil {
			return err
		}
		if err := os.WriteFile(k.record, rec, 0o600); err != nil {
			return err
		}
		if len(k.down)+len(k.capacity)+len(k.policies)+len(k.prices) == 0 {
			return nil
		}
	}
	s, err := api.Simulate(c.Context(), request)
	if err != nil {
		return err
	}
	return k.print(c, s)
}

// readTraffic takes the traffic policies out of files of rules.
func readTraffic(paths []string, stdin io.Reader) ([]policy.Traffic, error) {
	rules, err := apply.Read(paths, stdin)
	if err != nil {
		return nil, usageError{err}
	}
	var out []policy.Traffic
	for key, fields := range rules {
		if string(key.Kind) != "traffic-policies" {
			return nil, usageError{fmt.Errorf("--policy: %s %s is no traffic policy: of other rules isthmus apply --dry-run says what they would change", key.Kind, key.Name)}
		}
		data, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		var t policy.Traffic
		if err := json.Unmarshal(data, &t); err != nil {
			return nil, fmt.Errorf("traffic policy %s: %w", key.Name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (k *simulateFlags) print(c *cobra.Command, s *resource.Simulation) error {
	if k.json {
		return printJSON(c.OutOrStdout(), s)
	}
	rows := [][]string{{"CLUSTER", "NOW", "AT ONCE", "SETTLED", "BYTES NOW", "BYTES SETTLED", "A MONTH NOW", "A MONTH SETTLED"}}
	for _, x := range s.Clusters {
		name := string(x.Cluster)
		if x.Down {
			name += " (down)"
		}
		rows = append(rows, []string{name, perSecond(x.Before), perSecond(x.AtOnce), perSecond(x.Settled), bytesPerSecond(x.BytesBefore), bytesPerSecond(x.BytesSettled), money(x.SpendBefore), money(x.SpendSettled)})
	}
	if err := table(c, rows); err != nil {
		return err
	}
	rows = [][]string{{"\nSERVICE", "GATEWAY", "CALLS", "NOW", "AT ONCE", "SETTLED", "A MONTH NOW", "A MONTH SETTLED"}}
	for i := range s.Services {
		x := &s.Services[i]
		name := x.Service.String()
		if x.Port != "" {
			name += ":" + x.Port
		}
		rows = append(rows, []string{name, x.Gateway, perSecond(x.PerSecond), partsText(x.Before), partsText(x.AtOnce), partsText(x.Settled), money(x.SpendBefore), money(x.SpendSettled)})
	}
	if err := table(c, rows); err != nil {
		return err
	}
	if rows = shedRows(s); len(rows) > 1 {
		if err := table(c, rows); err != nil {
			return err
		}
	}
	out := c.OutOrStdout()
	if len(s.Breaks) > 0 {
		_, _ = fmt.Fprintln(out, "\nbreaks")
	} else {
		_, _ = fmt.Fprintln(out, "\nnothing breaks")
	}
	for _, b := range s.Breaks {
		_, _ = fmt.Fprintf(out, "  %s (gateway %s), %s: %.1f %% %s: %s\n", b.Service, b.Gateway, strings.ReplaceAll(b.When, "_", " "), b.Share, b.What, b.Reason)
	}
	for _, u := range s.Unknown {
		_, _ = fmt.Fprintf(out, "not known: %s\n", u)
	}
	return nil
}

// shedRows are those whose calls would be refused.
func shedRows(s *resource.Simulation) [][]string {
	rows := [][]string{{"\nSHED OF", "CALLER", "PRIORITY", "CALLS", "NOW", "AT ONCE", "SETTLED"}}
	for i := range s.Services {
		for _, x := range s.Services[i].Shed {
			rows = append(rows, []string{
				s.Services[i].Service.String(), dash(x.Caller), x.Priority, perSecond(x.PerSecond),
				fmt.Sprintf("%.1f %%", x.Before), fmt.Sprintf("%.1f %%", x.AtOnce), fmt.Sprintf("%.1f %%", x.Settled),
			})
		}
	}
	return rows
}

func perSecond(n float64) string { return fmt.Sprintf("%.3g/s", n) }

func bytesPerSecond(n float64) string {
	for _, unit := range []string{"B/s", "kB/s", "MB/s"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.3g GB/s", n)
}

// partsText is where calls go: "b 84 % in 21.0 ms, c 16 %".
func partsText(parts []resource.SimulatedPart) string {
	text := make([]string, 0, len(parts))
	for _, p := range parts {
		name := string(p.Cluster)
		if name == "" {
			name = p.Status
		}
		one := fmt.Sprintf("%s %.1f %%", name, p.Share)
		if p.Took > 0 {
			about := "in "
			if p.Estimated {
				about = "in about "
			}
			one += " " + about + ms(p.Took)
		}
		text = append(text, one)
	}
	return dash(strings.Join(text, ", "))
}
