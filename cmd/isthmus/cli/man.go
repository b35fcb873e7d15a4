package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages",
		Long:  "Write one manual page for each command into a folder, for packages and for\nman -l DIR/isthmus.1.",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true // the same build writes the same pages
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "ISTHMUS", Section: "1", Source: "Isthmus", Manual: "Isthmus manual"}, dir); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "man", "folder to write to")
	return c
}
