package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func newHistory() *cobra.Command {
	var filter client.HistoryFilter
	var since time.Duration
	var last int
	records := func(api *client.Client) client.Collection[resource.Change] { return api.History(filter) }
	c := reading("history", "Show every change of policy and peers: who, when, why",
		`Show the changes of exports, imports, intentions, traffic policies and peers, the newest
last. The records are chained by their hashes: isthmus history verify finds what was
changed in them afterwards.

The commands below show one change, judge the chain, and take changes back. To see the
rules of a past moment:  isthmus export list --as-of 42`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			if since > 0 {
				filter.From = time.Now().Add(-since)
			}
			list, err := records(api).List(ctx)
			if err != nil {
				return nil, err
			}
			if last > 0 && len(list) > last {
				list = list[len(list)-last:]
			}
			rows := [][]string{{"CHANGE", "AT", "WHO", "WHAT", "REASON"}}
			for _, r := range list {
				rows = append(rows, []string{number(r.Sequence), r.At.UTC().Format(time.RFC3339), dash(r.Principal), changed(r), dash(r.Reason)})
			}
			return &answer{Value: list, Rows: rows}, nil
		}, changesOf(records))
	f := c.Flags()
	f.StringVar(&filter.Kind, "kind", "", "changes of this kind only: exports, imports, intentions, traffic-policies, peers")
	f.StringVar(&filter.Name, "name", "", "changes of rules of this name only")
	f.StringVar(&filter.Principal, "by", "", "changes by this principal only")
	f.DurationVar(&since, "since", 0, "changes of the last 2h, 30m ... only")
	f.IntVar(&last, "last", 0, "the last so many only")
	c.AddCommand(newHistoryShow(), newHistoryVerify(), newHistoryRevert())
	return c
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func changed(r resource.Change) string {
	what := r.Action + " " + r.Kind
	if r.Name != "" {
		what += "/" + r.Name
	}
	return what
}

// parseSequence reads the number of a change.
func parseSequence(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, usageError{fmt.Errorf("CHANGE %q: must be the number of a change, see isthmus history", s)}
	}
	return n, nil
}

func newHistoryShow() *cobra.Command {
	return reading("show CHANGE", "Show one change: what was before and after", "", exactArgs("CHANGE"),
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			n, err := parseSequence(args[0])
			if err != nil {
				return nil, err
			}
			d, err := api.Change(ctx, n)
			if err != nil {
				return nil, err
			}
			var b strings.Builder
			fmt.Fprintf(&b, "change %d, %s, by %s\n%s\n", d.Sequence, d.At.UTC().Format(time.RFC3339), dash(d.Principal), changed(d.Change))
			if d.Reason != "" {
				fmt.Fprintf(&b, "because: %s\n", d.Reason)
			}
			for _, x := range d.Diff {
				path := ""
				if x.Path != "" { // the whole rule has none
					path = x.Path + ": "
				}
				if x.Before != nil {
					fmt.Fprintf(&b, "  - %s%s\n", path, x.Before)
				}
				if x.After != nil {
					fmt.Fprintf(&b, "  + %s%s\n", path, x.After)
				}
			}
			fmt.Fprintf(&b, "hash %s\n", d.Hash)
			return &answer{Value: d, Text: b.String()}, nil
		})
}

// errBroken is the exit code 1 of verify; what is broken is its output.
var errBroken = errors.New("the history was changed after it was written")

func newHistoryVerify() *cobra.Command {
	k := &connection{}
	c := &cobra.Command{
		Use: "verify", Short: "Judge the chain of records", Args: exactArgs(),
		Long: `Have the federation read every record anew and judge the chain of their hashes. Note the
last hash elsewhere: as long as it appears in the chain, nothing before it was changed.
The exit code is 1 where the chain is broken.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			v, err := api.VerifyHistory(c.Context())
			if err != nil {
				return err
			}
			if k.json {
				err = printJSON(c.OutOrStdout(), v)
			} else {
				_, err = fmt.Fprint(c.OutOrStdout(), verdict(v))
			}
			if err == nil && !v.OK {
				return errBroken
			}
			return err
		},
	}
	k.flags(c)
	return c
}

func verdict(v resource.Verification) string {
	if !v.OK {
		return fmt.Sprintf("broken at change %d: %s\n", v.Broken, v.Rule)
	}
	return fmt.Sprintf("whole: changes %d to %d, %d records\nlast hash %s\n", v.First, v.Last, v.Records, v.Hash)
}

func newHistoryRevert() *cobra.Command {
	w := &writing{}
	var asOf string
	var force bool
	c := &cobra.Command{
		Use:   "revert CHANGE | --as-of CHANGE|TIME",
		Short: "Take one change back, or bring a whole past state back",
		Long: `Take one change back: the rule becomes what it was before. With --as-of, every rule that was
made over the API becomes what it was after that change, or at that time (RFC 3339). Either
is a change itself, and can be taken back.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (asOf != "") {
				return usageError{errors.New("either the number of a change, or --as-of with a number or a time")}
			}
			var sequence uint64
			if len(args) == 1 {
				var err error
				if sequence, err = parseSequence(args[0]); err != nil {
					return err
				}
			}
			api, end, err := w.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			marked := api.WithReason(w.reason)
			var r resource.Revert
			if asOf != "" {
				r, err = marked.RevertTo(c.Context(), asOf, w.dryRun)
			} else {
				r, err = marked.Revert(c.Context(), sequence, force, w.dryRun)
			}
			if err != nil {
				return err
			}
			if w.json {
				return printJSON(c.OutOrStdout(), r)
			}
			for _, x := range r.Changes {
				done := map[string]string{"create": "created", "replace": "changed", "delete": "removed"}[x.Action]
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s/%s %s\n", x.Kind, x.Name, w.said(done)); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d rules %s, as after change %d\n", len(r.Changes), w.said("changed"), r.AsOf)
			return err
		},
	}
	w.flags(c)
	c.Flags().StringVar(&asOf, "as-of", "", "bring back the whole state after this change, or at this time")
	c.Flags().BoolVar(&force, "force", false, "also where the rule was changed since")
	return c
}
