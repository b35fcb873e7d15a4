package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func newExplain() *cobra.Command {
	var port, pin, from, gateway string
	var made realCalls
	c := reading("explain [SERVICE]", "Say where a call to a service would go, or where a real one went, and why",
		`Say where a call to a service would go now, and why: the candidates by tier, what is
excluded and on what evidence, loads and scores, the choice, and what would have to be
different for another one. The evidence is that of the cluster's own gateways.

With --trace or --request, say it of a real call: each attempt, with the decision that
was made then. Gateways keep calls that failed, were tried again or were slow, those
whose traceparent has the sampled flag, and a share of the rest (gateway.explain in the
configuration). An answer's X-Request-Id is the ID to ask by. --recent lists what is
kept. A call to another cluster has a second part, which is asked for there, by the
same ID. --admin asks one gateway of this host directly, with no federation.

--record also writes such calls to a file, with all that their decisions had read, and
--replay repeats the decisions of the file, anywhere and later, by the code of the
program that does so: what a new version would have decided, or what to send along with
a question. The exit code is 1 where one comes out otherwise. The file holds endpoints
and policies of the services called: it is as private as the API is.`, made.args,
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			if made.asked() {
				return made.ask(ctx, api, args, gateway)
			}
			name, err := catalog.ParseServiceName(args[0])
			if err != nil {
				return nil, usageError{err}
			}
			e, err := api.Explain(ctx, resource.ExplainQuery{
				Service: name, Port: port, Pin: catalog.ClusterName(pin), From: catalog.ClusterName(from), Gateway: gateway,
			})
			if err != nil {
				return nil, err
			}
			if e.Ledger.Status == route.UnknownService {
				return nil, fmt.Errorf("%s: this cluster neither has nor imports such a service; isthmus services lists those that it knows", name)
			}
			return &answer{Value: e, Text: explanation(e)}, nil
		})
	ask := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if made.replay != "" {
			return repeat(c, made.replay)
		}
		return ask(c, args)
	}
	c.Example = `  isthmus explain billing
  isthmus explain --request 9f2c...
  isthmus explain --recent billing --record calls.json
  isthmus explain --replay calls.json`
	made.flags(c)
	c.Flags().StringVar(&port, "port", "", "port name (default: the only one)")
	c.Flags().StringVar(&pin, "pin", "", "as if the call named this cluster")
	c.Flags().StringVar(&from, "from", "", "ask this cluster's federation instead")
	c.Flags().StringVar(&gateway, "gateway", "", "decide as this gateway would (default: the one with the freshest report)")
	return c
}

// explanation is a ledger in lines that a person reads from top to bottom.
func explanation(e *resource.Explanation) string {
	return ledgerText(e.Ledger, fmt.Sprintf("asked of %s, gateway %s, by its report of %s ago; table %d.%d",
		e.Cluster, e.Gateway, ms(e.ReportAge), e.Epoch, e.Version))
}

// ledgerText is a ledger in lines; source says whose it is.
func ledgerText(l *route.Ledger, source string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", l.Why)
	if l.Otherwise != "" {
		fmt.Fprintf(&b, "%s\n", l.Otherwise)
	}
	fmt.Fprintf(&b, "\n%s\n", source)
	fmt.Fprintf(&b, "status %s, mode %s, algorithm %s\n", l.Status, l.Mode, l.Policy.Algorithm)
	if l.Policy.Limits != nil {
		fmt.Fprintf(&b, "limits of %s: %s\n", l.Policy.Name, limitsText(l.Policy.Limits))
	}
	for _, t := range l.Tiers {
		fmt.Fprintf(&b, "\ntier %d, %s: %d of %d ready, health %.0f %%, load %.0f %%%s\n",
			t.Tier, t.Name, t.Ready, t.Total, t.Health, t.Load, flags(map[string]bool{
				"panic": t.Panic, "refused": t.Refused, "ramp ignored": t.RampIgnored,
			}))
		for _, c := range t.Candidates {
			explainCandidate(&b, c)
		}
	}
	if len(l.Excluded) > 0 {
		b.WriteString("\nexcluded\n")
	}
	for _, x := range l.Excluded {
		fmt.Fprintf(&b, "  %s: %s", place(string(x.Cluster), x.Zone, x.Endpoint), x.Reason)
		if x.Evidence != "" {
			fmt.Fprintf(&b, ", %s", x.Evidence)
		}
		if x.Age > 0 {
			fmt.Fprintf(&b, ", for %s", x.Age.Round(100_000_000))
		}
		b.WriteString("\n")
	}
	for _, d := range l.Draws {
		fmt.Fprintf(&b, "\ndrew the %s by %s", d.Of, d.By)
		if len(d.Among) > 0 {
			fmt.Fprintf(&b, " among %s", strings.Join(d.Among, ", "))
		}
	}
	b.WriteString("\n")
	return b.String()
}

func explainCandidate(b *strings.Builder, c route.LedgerCandidate) {
	fmt.Fprintf(b, "  %s: %d of %d ready (%s), share %.0f %%, weight %.0f %%%s", place(string(c.Cluster), c.Zone, ""),
		c.Ready, c.Total, c.Source, c.Share, c.Weight, flags(map[string]bool{
			"control lost": c.ControlLost, "quarantined": c.Quarantined, string(c.Reason): c.Reason != "",
		}))
	if c.Score != nil {
		fmt.Fprintf(b, ", predicted %s (answers %s, round trip %s, %d in flight)",
			ms(c.Score.Predicted), ms(c.Score.EWMA), ms(c.Score.RTT), c.Score.InFlight)
	}
	if c.Price != nil {
		fmt.Fprintf(b, ", price of a GB %s", priceText(c.Price))
		if c.Score != nil && c.Score.Price > 0 {
			fmt.Fprintf(b, ", of this call worth %s", ms(c.Score.Price))
		}
	}
	b.WriteString("\n")
	if f := c.Forecast; f != nil && f.Calls > 0 {
		fmt.Fprintf(b, "    lately predicted %s, observed %s to the first byte, off by %s (%.0f %%) on average, over %d calls\n",
			ms(f.Predicted), ms(f.Observed), ms(f.Error), 100*f.RelativeError, f.Calls)
	}
	for _, ep := range c.Endpoints {
		fmt.Fprintf(b, "    %s %s weight %d%s\n", ep.ID, ep.Address, ep.Weight, flags(map[string]bool{string(ep.Reason): ep.Reason != ""}))
	}
}

func place(cluster, zone, endpoint string) string {
	parts := []string{cluster}
	for _, p := range []string{zone, endpoint} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "/")
}

// flags lists what is set, in a fixed order.
func flags(set map[string]bool) string {
	var on []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			on = append(on, name)
		}
	}
	if len(on) == 0 {
		return ""
	}
	return " [" + strings.Join(on, ", ") + "]"
}
