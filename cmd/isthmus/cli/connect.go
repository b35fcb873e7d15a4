package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// connection holds the flags of every command that asks a federation.
type connection struct {
	api       string
	tokenFile string
	json      bool
}

func (k *connection) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&k.api, "api", cmp.Or(os.Getenv("ISTHMUS_API"), config.DefaultAPISocket), "the federation's REST API: a Unix socket's path, or http://IP:PORT (environment: ISTHMUS_API)")
	f.StringVar(&k.tokenFile, "token-file", os.Getenv("ISTHMUS_TOKEN_FILE"), "file with the token, needed with http:// (DATA_DIR/federation/api.token; environment: ISTHMUS_TOKEN_FILE)")
	f.BoolVar(&k.json, "json", false, "print JSON")
}

// open returns a client; the caller closes it.
func (k *connection) open() (*client.Client, error) {
	if !strings.HasPrefix(k.api, "http://") {
		return client.New(client.Options{Socket: k.api})
	}
	if k.tokenFile == "" {
		return nil, usageError{errors.New("--token-file is needed with --api http://...: it is api.token in the federation's data directory")}
	}
	token, err := os.ReadFile(k.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return client.New(client.Options{URL: k.api, Token: strings.TrimSpace(string(token))})
}

// answer is what a reading command prints: Value with --json, else what Rows (or
// Text) makes of it.
type answer struct {
	Value any
	Rows  [][]string // the first row is the heading
	Text  string     // after the rows
}

// reading makes a command that asks a federation and prints the answer; with lists
// it has --watch and prints again whenever one of them has changed.
func reading(use, short, long string, args cobra.PositionalArgs, ask func(ctx context.Context, api *client.Client, args []string) (*answer, error), lists ...watched) *cobra.Command {
	k := &connection{}
	var watching bool
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := k.open()
			if err != nil {
				return err
			}
			defer api.Close()
			out := c.OutOrStdout()
			show := func() error {
				a, err := ask(c.Context(), api, args)
				switch {
				case err != nil:
					return err
				case k.json && watching:
					return printLine(out, a.Value)
				case k.json:
					return printJSON(out, a.Value)
				}
				if watching {
					screen(out)
				}
				if err := table(c, a.Rows); err != nil {
					return err
				}
				_, err = io.WriteString(out, a.Text)
				return err
			}
			if watching {
				return watch(c, api, lists, show)
			}
			return show()
		},
	}
	k.flags(c)
	if len(lists) > 0 {
		c.Flags().BoolVarP(&watching, "watch", "w", false, "print again after each change, until interrupted (with --json one line each)")
	}
	return c
}

// table prints aligned columns; the first row is the heading.
func table(c *cobra.Command, rows [][]string) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// ms prints a duration in milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

// ago prints how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

// dash stands for nothing in a column.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
