package cli

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/apply"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func newExport() *cobra.Command {
	k := &connection{}
	var path string
	c := &cobra.Command{
		Use:   "export",
		Short: "Offer services to peers; or print all rules as a file",
		Long: `The commands below list, show, add and remove exports: which services this cluster offers,
and to whom.

Without a command, print the peers and rules that were made over the API as one file, in
the form that isthmus apply reads: the way from clicking to version control. Rules of the
configuration file are not in it, they stay where they are.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			held, err := readHeld(c.Context(), api)
			if err != nil {
				return err
			}
			doc := held.Document()
			if k.json {
				return printJSON(c.OutOrStdout(), doc)
			}
			data, err := documentYAML(doc)
			if err != nil {
				return err
			}
			if path == "" {
				_, err = c.OutOrStdout().Write(data)
				return err
			}
			return os.WriteFile(path, data, 0o644)
		},
	}
	k.flags(c)
	c.Flags().StringVarP(&path, "output", "o", "", "write to this file")
	c.AddCommand(exportRules().commands()...)
	return c
}

// documentYAML goes by way of JSON: the names, their order and what is left out are
// those of the API.
func documentYAML(doc *apply.Document) ([]byte, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var ordered any
	if err := yaml.UnmarshalWithOptions(data, &ordered, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(ordered, yaml.IndentSequence(true))
}

func exportRules() ruleKind[resource.Export] {
	return ruleKind[resource.Export]{
		noun: "export", rules: (*client.Client).Exports,
		etag: func(e resource.Export) string { return e.ETag },
		rows: func(list []resource.Export) [][]string {
			rows := [][]string{{"NAME", "SERVICES", "TO", "SUBSET LABELS", "ORIGIN"}}
			for _, e := range list {
				rows = append(rows, []string{e.Name, patterns(e.Services), strings.Join(e.To, ", "), dash(strings.Join(e.SubsetLabels, ", ")), string(e.Origin)})
			}
			return rows
		},
		flags: func(f *pflag.FlagSet) func(string) (resource.Export, error) {
			services := f.StringSlice("service", nil, "service to offer: name.namespace, *.namespace or * (repeatable)")
			to := f.StringSlice("to", nil, `peer to offer to, "*" is every peer (repeatable)`)
			labels := f.StringSlice("subset-label", nil, "endpoint label whose values split the summary (repeatable)")
			return func(name string) (resource.Export, error) {
				e := policy.Export{Name: name, Services: servicePatterns(*services), To: *to, SubsetLabels: *labels}
				if len(*services) == 0 || len(*to) == 0 {
					return resource.Export{}, errors.New("--service and --to are needed")
				}
				return resource.Export{Export: e}, e.Validate()
			}
		},
		example: "isthmus export add billing --service billing.default --to gcp-us-central1",
	}
}

func servicePatterns(names []string) []policy.ServicePattern {
	out := make([]policy.ServicePattern, len(names))
	for i, n := range names {
		out[i] = policy.ServicePattern(n)
		if p, err := policy.ParseServicePattern(n); err == nil {
			out[i] = p // "billing" is billing.default; what is wrong is told by Validate
		}
	}
	return out
}
