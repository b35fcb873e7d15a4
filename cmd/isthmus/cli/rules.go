package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// ruleKind describes the commands of one kind of rule.
type ruleKind[R any] struct {
	noun  string // "export"
	rules func(*client.Client) client.Rules[R]
	// rows are the table of list, heading first.
	rows func([]R) [][]string
	// etag is the version of a rule.
	etag func(R) string
	// flags registers the flags of add and returns what makes a rule of them.
	flags func(f *pflag.FlagSet) func(name string) (R, error)
	// example is one line of add.
	example string
}

// commands are list, show, add and remove.
func (k ruleKind[R]) commands() []*cobra.Command {
	return []*cobra.Command{k.list(), k.show(), k.add(), k.remove()}
}

func (k ruleKind[R]) list() *cobra.Command {
	var asOf string
	c := reading("list", "List the "+k.noun+"s", "", exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			rules := k.rules(api).Collection
			if asOf != "" {
				rules = rules.AsOf(asOf)
			}
			list, err := rules.List(ctx)
			if err != nil {
				return nil, err
			}
			return &answer{Value: list, Rows: k.rows(list)}, nil
		}, changesOf(ruleList(k.rules)))
	c.Flags().StringVar(&asOf, "as-of", "", "as they were after this change of the history, or at this time (RFC 3339)")
	return c
}

func (k ruleKind[R]) show() *cobra.Command {
	return reading("show NAME", "Show one "+k.noun, "", exactArgs("NAME"),
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			rule, err := k.rules(api).Get(ctx, args[0])
			if err != nil {
				return nil, err
			}
			return &answer{Value: rule, Rows: k.rows([]R{rule})}, nil
		}, changesOf(ruleList(k.rules)))
}

// writing holds the flags of every command that writes.
type writing struct {
	connection
	dryRun bool
	reason string
}

func (w *writing) flags(c *cobra.Command) {
	w.connection.flags(c)
	c.Flags().BoolVar(&w.dryRun, "dry-run", false, "check everything, write nothing")
	c.Flags().StringVar(&w.reason, "reason", "", "why, for the history")
}

// said is the past tense of what was done, or would be.
func (w *writing) said(done string) string {
	if w.dryRun {
		return "would be " + done
	}
	return done
}

// foreseen prints what a write has done or would do, unless it failed.
func (w *writing) foreseen(c *cobra.Command, err error, value any, text string) error {
	switch {
	case err != nil:
		return err
	case w.json:
		return printJSON(c.OutOrStdout(), value)
	}
	_, err = io.WriteString(c.OutOrStdout(), text)
	return err
}

func (k ruleKind[R]) add() *cobra.Command {
	w := &writing{}
	var rule func(string) (R, error)
	var replace bool
	c := &cobra.Command{
		Use: "add NAME", Short: "Add an " + k.noun, Example: "  " + k.example, Args: exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := rule(args[0])
			if err != nil {
				return usageError{err}
			}
			api, end, err := w.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			rules := k.rules(api.WithReason(w.reason))
			done := "added"
			if replace {
				done = "replaced"
			}
			if w.dryRun {
				var would resource.DryRun[R]
				if replace {
					would, err = rules.TryReplace(c.Context(), args[0], r, "*")
				} else {
					would, err = rules.TryCreate(c.Context(), r)
				}
				return w.foreseen(c, err, would, fmt.Sprintf("%s %s would be %s\n%s", k.noun, args[0], done, impactText(would.Would)))
			}
			if replace {
				r, err = rules.Replace(c.Context(), args[0], r, "*", false)
			} else {
				r, err = rules.Create(c.Context(), r, false)
			}
			return w.foreseen(c, err, r, fmt.Sprintf("%s %s %s\n", k.noun, args[0], done))
		},
	}
	w.flags(c)
	c.Flags().BoolVar(&replace, "replace", false, "put it in the place of the one of that name")
	rule = k.flags(c.Flags())
	return c
}

func (k ruleKind[R]) remove() *cobra.Command {
	w := &writing{}
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove an " + k.noun, Args: exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			api, end, err := w.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			rules := k.rules(api.WithReason(w.reason))
			have, err := rules.Get(c.Context(), args[0])
			if err != nil {
				return err
			}
			if w.dryRun {
				would, err := rules.TryDelete(c.Context(), args[0], k.etag(have))
				return w.foreseen(c, err, would, fmt.Sprintf("%s %s would be removed\n%s", k.noun, args[0], impactText(would)))
			}
			err = rules.Delete(c.Context(), args[0], k.etag(have), false)
			return w.foreseen(c, err, have, fmt.Sprintf("%s %s removed\n", k.noun, args[0]))
		},
	}
	w.flags(c)
	return c
}
