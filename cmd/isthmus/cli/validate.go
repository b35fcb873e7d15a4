package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/pricebook"
)

func newValidate() *cobra.Command {
	var path, book string
	var asJSON bool
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration file and report every problem at once",
		Long: `Check a configuration file. Every problem is reported at once, each with file,
line, field, value and the rule that it breaks. Nothing but the file is touched. With
--price-book a price book is checked instead.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			check := func() error { _, err := config.Load(path); return err }
			if book != "" {
				path, check = book, func() error { return checkBook(book) }
			}
			err := check()
			var problems strictyaml.Problems
			if err != nil && !errors.As(err, &problems) {
				return err
			}
			if asJSON {
				if problems == nil {
					problems = strictyaml.Problems{}
				}
				if err := printJSON(c.OutOrStdout(), problems); err != nil {
					return err
				}
			}
			switch {
			case len(problems) > 0 && asJSON:
				return fmt.Errorf("%s has %d problems", path, len(problems))
			case len(problems) > 0:
				return fmt.Errorf("%s has %d problems:\n%w", path, len(problems), problems)
			case !asJSON:
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", path)
				return err
			}
			return nil
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&book, "price-book", "", "check this price book, see federation.price_book")
	c.Flags().BoolVar(&asJSON, "json", false, "print the problems as JSON")
	return c
}

func checkBook(path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		_, err = pricebook.Read(path, data)
	}
	return err
}

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", config.DefaultPath, "configuration file")
}
