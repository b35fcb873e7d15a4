package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
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
	c := reading("policy", "Show, create and remove exports, imports, intentions and traffic policies",
		`Show the policy of a cluster. Rules of the configuration file have the origin "config"
and are changed there; the others are created and removed with the commands below.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			r, err := readRules(ctx, api)
			if err != nil {
				return nil, err
			}
			return &answer{Value: r, Rows: r.rows()}, nil
		},
		changesOf(ruleList((*client.Client).Exports)), changesOf(ruleList((*client.Client).Imports)),
		changesOf(ruleList((*client.Client).Intentions)), changesOf(ruleList((*client.Client).TrafficPolicies)))
	c.AddCommand(newPolicyCreate(), newPolicyDelete())
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

// policyFile is what `policy create -f` reads: the policy keys of a
// configuration file's federation section.
type policyFile struct {
	Exports    []policy.Export    `yaml:"exports"`
	Imports    []policy.Import    `yaml:"imports"`
	Intentions []policy.Intention `yaml:"intentions"`
	Traffic    []policy.Traffic   `yaml:"traffic_policies"`
}

func newPolicyCreate() *cobra.Command {
	k := &connection{}
	var path string
	var dryRun bool
	c := &cobra.Command{
		Use:   "create -f FILE",
		Short: "Create the rules of a file",
		Long: `Create the rules of a YAML file with the keys exports, imports, intentions and
traffic_policies, as in the federation section of the configuration. Rules that exist
are an error; nothing that was created before it is undone. An example:

  exports:
    - {name: billing, services: [billing.default], to: [gcp-us-central1]}
  intentions:
    - name: web-may-bill
      services: [billing.default]
      callers: [spiffe://gcp.example.org/apps/web]
      action: allow`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if path == "" {
				return usageError{errors.New("-f is needed: the file with the rules")}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var file policyFile
			if _, err := strictyaml.Decode(path, data, &file); err != nil {
				return err
			}
			if len(file.Exports)+len(file.Imports)+len(file.Intentions)+len(file.Traffic) == 0 {
				return fmt.Errorf("%s has no rules: it needs exports, imports, intentions or traffic_policies", path)
			}
			api, err := k.open()
			if err != nil {
				return err
			}
			defer api.Close()
			return file.create(c, api, dryRun)
		},
	}
	k.flags(c)
	c.Flags().StringVarP(&path, "file", "f", "", "file with the rules")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check everything, write nothing")
	return c
}

func (f *policyFile) create(c *cobra.Command, api *client.Client, dryRun bool) error {
	done := "created"
	if dryRun {
		done = "would create"
	}
	say := func(kind, name string, err error) error {
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, name, err)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s %s\n", done, kind, name)
		return err
	}
	for _, e := range f.Exports {
		_, err := api.Exports().Create(c.Context(), resource.Export{Export: e}, dryRun)
		if err := say("export", e.Name, err); err != nil {
			return err
		}
	}
	for _, i := range f.Imports {
		_, err := api.Imports().Create(c.Context(), resource.Import{Import: i}, dryRun)
		if err := say("import", i.Name, err); err != nil {
			return err
		}
	}
	for _, i := range f.Intentions {
		_, err := api.Intentions().Create(c.Context(), resource.Intention{Intention: i}, dryRun)
		if err := say("intention", i.Name, err); err != nil {
			return err
		}
	}
	for _, t := range f.Traffic {
		_, err := api.TrafficPolicies().Create(c.Context(), resource.TrafficPolicy{Traffic: t}, dryRun)
		if err := say("traffic-policy", t.Name, err); err != nil {
			return err
		}
	}
	return nil
}

func newPolicyDelete() *cobra.Command {
	k := &connection{}
	var dryRun bool
	c := &cobra.Command{
		Use:   "delete KIND NAME",
		Short: "Remove a rule: export, import, intention or traffic-policy",
		Long: `Remove a rule that was created over the API. KIND is export, import, intention or
traffic-policy, as in the first column of isthmus policy.`,
		Args: exactArgs("KIND", "NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			kind, name := args[0], args[1]
			api, err := k.open()
			if err != nil {
				return err
			}
			defer api.Close()
			switch kind {
			case "export":
				err = api.Exports().Delete(c.Context(), name, "", dryRun)
			case "import":
				err = api.Imports().Delete(c.Context(), name, "", dryRun)
			case "intention":
				err = api.Intentions().Delete(c.Context(), name, "", dryRun)
			case "traffic-policy":
				err = api.TrafficPolicies().Delete(c.Context(), name, "", dryRun)
			default:
				return usageError{fmt.Errorf("KIND %q: must be export, import, intention or traffic-policy", kind)}
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", kind, name, err)
			}
			done := "removed"
			if dryRun {
				done = "would remove"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s %s\n", done, kind, name)
			return err
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check everything, write nothing")
	return c
}

// ruleList is the readable side of rules.
func ruleList[T any](rules func(*client.Client) client.Rules[T]) func(*client.Client) client.Collection[T] {
	return func(api *client.Client) client.Collection[T] { return rules(api).Collection }
}
