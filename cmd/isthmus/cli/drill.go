package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/drill"
)

const (
	// drillPoll is how often a drill that is waited for is looked at.
	drillPoll = time.Second
	// drillPatience is how long after its end a federation may go on to be out of reach.
	drillPatience = time.Minute
	// drillGoodbye is how long stopping it may take once the command is interrupted.
	drillGoodbye = 10 * time.Second
)

// errDrillAborted is the exit code 1; why is the command's output.
var errDrillAborted = errors.New("the drill was aborted")

// drillFlags are those of the command drill.
type drillFlags struct {
	connection
	down, zones, services []string
	share                 string
	lasts                 time.Duration
	atOnce, beyond        bool
	dryRun, detach        bool
	reason                string
}

func newDrill() *cobra.Command {
	k := &drillFlags{}
	c := &cobra.Command{
		Use:   "drill",
		Short: "Route a share of real calls as if clusters, regions, clouds or zones were lost",
		Long: `Route a share of the real calls of this cluster's callers as if clusters, regions or
clouds (--down) or zones (--zone) were lost, for a time, and compare what was predicted
(as isthmus simulate does) with what is observed. The own cluster may be named: its
endpoints count as lost then, its callers do not.

It takes no call away: what would go nowhere is routed as ever, and counted. Gateways
abort it by themselves, at once and for good, if drilled calls fail or are late
significantly more often than others, a real failure shows up, a switch is set, or the
federation falls silent. There is one drill at a time.

The command waits for the end and prints the report; interrupting it stops the drill
(--detach: neither). The exit code is 1 where it was aborted.`,
		Example: `  isthmus drill --down gcp-us-central1 --dry-run
  isthmus drill --down aws/us-east-1 --share 5% --for 10m --service billing.shop
  isthmus drill --zone aws/us-east-1/use1-az4 --share 1% --reason 'weekly practice'`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return k.run(c) },
	}
	k.flags(c)
	f := c.Flags()
	f.StringSliceVar(&k.down, "down", nil, "a cluster, region (CLOUD/REGION) or cloud that counts as lost; may be given more than once")
	f.StringSliceVar(&k.zones, "zone", nil, "a zone (CLOUD/REGION/ZONE) that counts as lost; may be given more than once")
	f.StringSliceVar(&k.services, "service", nil, "drill calls to this service alone; may be given more than once")
	f.StringVar(&k.share, "share", "1%", "the part of the calls, at most 10% without --beyond")
	f.DurationVar(&k.lasts, "for", 10*time.Minute, "how long it lasts")
	f.BoolVar(&k.atOnce, "at-once", false, "as in the first minute after the loss, when what is lost still counts as a part of what there should be")
	f.BoolVar(&k.beyond, "beyond", false, "let the share be more than 10%")
	f.BoolVar(&k.dryRun, "dry-run", false, "drill nothing: say what is predicted")
	f.BoolVar(&k.detach, "detach", false, "do not wait for the end")
	f.StringVar(&k.reason, "reason", "", "why, for the history")
	c.AddCommand(newDrillList(), newDrillShow(), newDrillStop())
	return c
}

func (k *drillFlags) run(c *cobra.Command) error {
	r := resource.DrillRequest{Down: k.down, Zones: k.zones, Share: k.share, For: k.lasts.String(), Beyond: k.beyond}
	if k.atOnce {
		r.Moment = "at_once"
	}
	for _, s := range k.services {
		n, err := catalog.ParseServiceName(s)
		if err != nil {
			return usageError{fmt.Errorf("--service %q: %w", s, err)}
		}
		r.Services = append(r.Services, n)
	}
	if _, err := drill.OrderOf(&r); err != nil {
		return usageError{err}
	}
	api, end, err := k.open(c.Context())
	if err != nil {
		return err
	}
	defer end()
	d, err := api.WithReason(k.reason).StartDrill(c.Context(), r, k.dryRun)
	if err != nil {
		return err
	}
	if !k.dryRun && !k.detach {
		if !k.json {
			_, _ = fmt.Fprintf(c.OutOrStdout(), "drill %s: %.4g %% of calls until %s\n", d.ID, d.Share, d.Until.Local().Format(time.TimeOnly))
		}
		if d, err = await(c.Context(), api, d); err != nil {
			return err
		}
	}
	if k.json {
		err = printJSON(c.OutOrStdout(), d)
	} else {
		err = printDrill(c, d)
	}
	if err == nil && d.State == resource.DrillAborted {
		return errDrillAborted
	}
	return err
}

// await follows a drill to its end; where ctx ends before, it stops it.
func await(ctx context.Context, api *client.Client, d *resource.Drill) (*resource.Drill, error) {
	timer := time.NewTicker(drillPoll)
	defer timer.Stop()
	for !d.Ended() {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drillGoodbye)
			defer cancel()
			if _, err := api.WithReason("the command was interrupted").StopDrill(last, d.ID); err != nil {
				return nil, fmt.Errorf("drill %s may go on until %s: %w", d.ID, d.Until.Local().Format(time.TimeOnly), err)
			}
			ctx = last
			for !d.Ended() && last.Err() == nil {
				<-timer.C
				if now, err := api.Drill(last, d.ID); err == nil {
					d = now
				}
			}
			return d, nil
		case <-timer.C:
		}
		now, err := api.Drill(ctx, d.ID)
		switch {
		case err == nil:
			d = now
		case ctx.Err() == nil && time.Since(d.Until) > drillPatience:
			return nil, err // gateways have ended it long ago
		}
	}
	return d, nil
}

func newDrillList() *cobra.Command {
	return reading("list", "List drills, the youngest first", "", exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			list, err := api.Drills(ctx)
			if err != nil {
				return nil, err
			}
			rows := [][]string{{"DRILL", "STATE", "LOST", "SHARE", "DRILLED", "FAILED", "LATE", "ERROR", "BY", "END"}}
			for i := range list {
				d := &list[i]
				rows = append(rows, []string{
					d.ID, d.State, lost(d), fmt.Sprintf("%.4g %%", d.Share), number(d.Report.Drilled.Calls), number(d.Report.Drilled.Failed), number(d.Report.Drilled.Late),
					points(d.Report.Error), dash(d.Principal), dash(d.End),
				})
			}
			return &answer{Value: list, Rows: rows}, nil
		})
}

func newDrillShow() *cobra.Command {
	return drillByID("show ID", "Show one drill: predicted against observed", func(ctx context.Context, api *client.Client, id, _ string) (*resource.Drill, error) {
		return api.Drill(ctx, id)
	})
}

func newDrillStop() *cobra.Command {
	return drillByID("stop ID", "Stop a drill at once", func(ctx context.Context, api *client.Client, id, reason string) (*resource.Drill, error) {
		return api.WithReason(reason).StopDrill(ctx, id)
	})
}

func drillByID(use, short string, do func(ctx context.Context, api *client.Client, id, reason string) (*resource.Drill, error)) *cobra.Command {
	k := &connection{}
	var reason string
	c := &cobra.Command{
		Use: use, Short: short, Args: exactArgs("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			d, err := do(c.Context(), api, args[0], reason)
			if err != nil {
				return err
			}
			if k.json {
				return printJSON(c.OutOrStdout(), d)
			}
			return printDrill(c, d)
		},
	}
	k.flags(c)
	if strings.HasPrefix(use, "stop") {
		c.Flags().StringVar(&reason, "reason", "", "why, for the history")
	}
	return c
}

func printDrill(c *cobra.Command, d *resource.Drill) error {
	out, r := c.OutOrStdout(), &d.Report
	name := "a drill"
	if d.ID != "" {
		name = "drill " + d.ID
	}
	_, _ = fmt.Fprintf(out, "%s: %.4g %% of calls as if %s were lost (%s), for %s: %s", name, d.Share, lost(d), strings.ReplaceAll(d.Moment, "_", " "), d.For, d.State)
	if d.End != "" {
		_, _ = fmt.Fprintf(out, ": %s", d.End)
	}
	if d.Detail != "" {
		_, _ = fmt.Fprintf(out, ": %s", d.Detail)
	}
	if d.EndedBy != "" {
		_, _ = fmt.Fprintf(out, " (by %s)", d.EndedBy)
	}
	_, _ = fmt.Fprint(out, "\n\n")
	rows := [][]string{{"SERVICE", "TO", "PREDICTED", "OBSERVED", "PREDICTED IN", "OBSERVED IN", "CALLS", "FAILED", "LATE"}}
	add := func(name string, split []resource.DrillPart) {
		for _, p := range split {
			rows = append(rows, []string{
				name, orNowhere(string(p.Cluster)), fmt.Sprintf("%.1f %%", p.Predicted), observed(d, p), predictedIn(p), took(p.Took),
				number(p.Calls), number(p.Failed), number(p.Late),
			})
		}
	}
	for i := range r.Services {
		s := &r.Services[i]
		text := s.Service.String()
		if s.Port != "" {
			text += ":" + s.Port
		}
		add(text, s.Split)
	}
	if len(r.Services) != 1 {
		add("all", r.Split)
	}
	if err := table(c, rows); err != nil {
		return err
	}
	for _, x := range []struct {
		name  string
		calls resource.DrillCalls
	}{{"drilled", r.Drilled}, {"others", r.Others}} {
		_, _ = fmt.Fprintf(out, "%s: %d calls, %d failed, %d late, in %s\n", x.name, x.calls.Calls, x.calls.Failed, x.calls.Late, took(x.calls.Took))
	}
	for _, s := range r.Spared {
		_, _ = fmt.Fprintf(out, "spared: %d calls were routed as ever, they would have ended with %s\n", s.Calls, s.Reason)
	}
	if r.Drilled.Calls > 0 {
		_, _ = fmt.Fprintf(out, "the split differs by %s from what was predicted (by chance: up to %s)\n", points(r.Error), points(r.Noise))
	}
	if d.Simulation != nil {
		for _, b := range d.Simulation.Breaks {
			_, _ = fmt.Fprintf(out, "breaks: %s (gateway %s), %s: %.1f %% %s: %s\n", b.Service, b.Gateway, strings.ReplaceAll(b.When, "_", " "), b.Share, b.What, b.Reason)
		}
	}
	return nil
}

// lost names what counts as lost.
func lost(d *resource.Drill) string {
	names := make([]string, 0, len(d.Down)+len(d.Zones))
	for _, c := range d.Down {
		names = append(names, string(c))
	}
	return strings.Join(append(names, d.Zones...), ", ")
}

func orNowhere(cluster string) string {
	if cluster == "" {
		return "nowhere (spared)"
	}
	return cluster
}

func observed(d *resource.Drill, p resource.DrillPart) string {
	if d.State == resource.DrillPlanned {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", p.Observed)
}

func predictedIn(p resource.DrillPart) string {
	if p.Estimated && p.PredictedTook > 0 {
		return "about " + ms(p.PredictedTook)
	}
	return took(p.PredictedTook)
}

func took(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return ms(d)
}

func points(n float64) string { return fmt.Sprintf("%.1f points", n) }
