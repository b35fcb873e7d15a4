package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func newImport() *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Take services from peers",
		Long:  "List, show, add and remove imports: which services this cluster takes, from whom, and\nunder which name.",
		Args:  exactArgs(),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(importRules().commands()...)
	return c
}

func importRules() ruleKind[resource.Import] {
	return ruleKind[resource.Import]{
		noun: "import", rules: (*client.Client).Imports,
		etag: func(i resource.Import) string { return i.ETag },
		rows: func(list []resource.Import) [][]string {
			rows := [][]string{{"NAME", "FROM", "SERVICES", "AS", "MAX CAPACITY", "ORIGIN"}}
			for _, i := range list {
				as, capacity := "-", "-"
				if i.As != nil {
					as = i.As.String()
				}
				if i.MaxCapacity > 0 {
					capacity = fmt.Sprint(i.MaxCapacity)
				}
				rows = append(rows, []string{i.Name, string(i.From), patterns(i.Services), as, capacity, string(i.Origin)})
			}
			return rows
		},
		flags: func(f *pflag.FlagSet) func(string) (resource.Import, error) {
			from := f.String("from", "", "peer to take from")
			services := f.StringSlice("service", nil, "the peer's service: name.namespace, *.namespace or * (repeatable)")
			exclude := f.StringSlice("exclude", nil, "services that are not taken although --service covers them (repeatable)")
			namespaces := f.StringToString("namespace", nil, "own namespace of the peer's: theirs=ours (repeatable)")
			as := f.String("as", "", "own name of the one service that is taken: name.namespace")
			capacity := f.Uint64("max-capacity", 0, "most capacity per row that is believed of the peer; 0 is no cap")
			return func(name string) (resource.Import, error) {
				i := policy.Import{Name: name, From: catalog.ClusterName(*from), Services: servicePatterns(*services), Exclude: servicePatterns(*exclude), Namespaces: *namespaces, MaxCapacity: *capacity}
				if *from == "" || len(*services) == 0 {
					return resource.Import{}, errors.New("--from and --service are needed")
				}
				if *as != "" {
					own, err := catalog.ParseServiceName(*as)
					if err != nil {
						return resource.Import{}, fmt.Errorf("--as: %w", err)
					}
					i.As = &own
				}
				return resource.Import{Import: i}, i.Validate()
			}
		},
		example: "isthmus import add billing --from gcp-us-central1 --service billing.default",
	}
}
