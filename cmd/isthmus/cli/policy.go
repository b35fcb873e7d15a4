package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// rules is everything that `isthmus policy` shows and creates, by the names of
// the configuration file.
type rules struct {
	Exports    []resource.Export        `json:"exports"`
	Imports    []resource.Import        `json:"imports"`
	Intentions []resource.Intention     `json:"intentions"`
	Traffic    []resource.TrafficPolicy `json:"traffic_policies"`
}

func newPolicy() *cobra.Command {
	c := reading("policy", "Show exports, imports, intentions and traffic policies; remove one",
		`Show the policy of a cluster. Rules of the configuration file have the origin "config"
and are changed there; isthmus apply, export add and import add make the others.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			r, err := readRules(ctx, api)
			if err != nil {
				return nil, err
			}
			return &answer{Value: r, Rows: r.rows()}, nil
		},
		changesOf(ruleList((*client.Client).Exports)), changesOf(ruleList((*client.Client).Imports)),
		changesOf(ruleList((*client.Client).Intentions)), changesOf(ruleList((*client.Client).TrafficPolicies)))
	c.AddCommand(newPolicyCallers(), newPolicyDelete())
	return c
}

func readRules(ctx context.Context, api *client.Client) (*rules, error) {
	var r rules
	var err error
	if r.Exports, err = api.Exports().List(ctx); err != nil {
		return nil, err // one reason is enough where nobody answers
	}
	var errs [3]error
	r.Imports, errs[0] = api.Imports().List(ctx)
	r.Intentions, errs[1] = api.Intentions().List(ctx)
	r.Traffic, errs[2] = api.TrafficPolicies().List(ctx)
	return &r, errors.Join(errs[:]...)
}

func (r *rules) rows() [][]string {
	rows := [][]string{{"KIND", "NAME", "SERVICES", "RULE", "ORIGIN"}}
	for _, e := range r.Exports {
		rows = append(rows, []string{"export", e.Name, patterns(e.Services), "to " + strings.Join(e.To, ", "), string(e.Origin)})
	}
	for _, i := range r.Imports {
		rule := "from " + string(i.From)
		if i.As != nil {
			rule += " as " + i.As.String()
		}
		rows = append(rows, []string{"import", i.Name, patterns(i.Services), rule, string(i.Origin)})
	}
	for _, i := range r.Intentions {
		rows = append(rows, []string{"intention", i.Name, patterns(i.Services), fmt.Sprintf("%s %s", i.Action, patterns(i.Callers)), string(i.Origin)})
	}
	for _, t := range r.Traffic {
		rows = append(rows, []string{"traffic-policy", t.Name, patterns(t.Services), dash(string(t.Algorithm)), string(t.Origin)})
	}
	return rows
}

func patterns[P ~string](ps []P) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = string(p)
	}
	return strings.Join(out, ", ")
}

func newPolicyDelete() *cobra.Command {
	w := &writing{}
	c := &cobra.Command{
		Use:   "delete KIND NAME",
		Short: "Remove a rule: export, import, intention or traffic-policy",
		Long: `Remove a rule that was made over the API. KIND is export, import, intention or
traffic-policy, as in the first column of isthmus policy.`,
		Args: exactArgs("KIND", "NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			kind, name := args[0], args[1]
			if !slices.Contains([]string{"export", "import", "intention", "traffic-policy"}, kind) {
				return usageError{fmt.Errorf("KIND %q: must be export, import, intention or traffic-policy", kind)}
			}
			api, end, err := w.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			plural := strings.TrimSuffix(kind, "y") + map[bool]string{true: "ies", false: "s"}[strings.HasSuffix(kind, "y")]
			if err := client.Kind[any](api.WithReason(w.reason), plural).Delete(c.Context(), name, "", w.dryRun); err != nil {
				return fmt.Errorf("%s %s: %w", kind, name, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s %s\n", kind, name, w.said("removed"))
			return err
		},
	}
	w.flags(c)
	return c
}

// ruleList is the readable side of rules.
func ruleList[T any](rules func(*client.Client) client.Rules[T]) func(*client.Client) client.Collection[T] {
	return func(api *client.Client) client.Collection[T] { return rules(api).Collection }
}
