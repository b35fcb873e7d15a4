package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/identity"
)

// connection holds the flags of every command that asks a federation.
type connection struct {
	api         string
	tokenFile   string
	workloadAPI string
	federation  string
	json        bool
}

func (k *connection) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&k.api, "api", cmp.Or(os.Getenv("ISTHMUS_API"), config.DefaultAPISocket), "the federation's REST API: a Unix socket's path, http://IP:PORT, or https://HOST:PORT of its mTLS listener (environment: ISTHMUS_API)")
	f.StringVar(&k.tokenFile, "token-file", os.Getenv("ISTHMUS_TOKEN_FILE"), "file with the token: needed with http:// (DATA_DIR/federation/api.token), an OIDC token with https:// (environment: ISTHMUS_TOKEN_FILE)")
	f.StringVar(&k.workloadAPI, "workload-api", os.Getenv("SPIFFE_ENDPOINT_SOCKET"), "with https://: the SPIFFE Workload API that gives this user's SVID, such as unix:///run/spire/agent.sock (environment: SPIFFE_ENDPOINT_SOCKET)")
	f.StringVar(&k.federation, "federation-id", os.Getenv("ISTHMUS_FEDERATION_ID"), "with https://: SPIFFE ID of the federation that is meant (environment: ISTHMUS_FEDERATION_ID)")
	f.BoolVar(&k.json, "json", false, "print JSON")
}

// svidWait is how long a command waits for its SVID.
const svidWait = 10 * time.Second

// open returns a client and what closes it.
func (k *connection) open(ctx context.Context) (*client.Client, func(), error) {
	opts := client.Options{Socket: k.api}
	end := func() {}
	if strings.HasPrefix(k.api, "http://") || strings.HasPrefix(k.api, "https://") {
		opts = client.Options{URL: k.api}
		if k.tokenFile != "" {
			token, err := os.ReadFile(k.tokenFile)
			if err != nil {
				return nil, nil, fmt.Errorf("read the token: %w", err)
			}
			opts.Token = strings.TrimSpace(string(token))
		} else if strings.HasPrefix(k.api, "http://") {
			return nil, nil, usageError{errors.New("--token-file is needed with --api http://...: it is api.token in the federation's data directory")}
		}
	}
	if strings.HasPrefix(k.api, "https://") {
		var err error
		if opts.Federation, err = spiffeid.FromString(k.federation); err != nil {
			return nil, nil, usageError{fmt.Errorf("--federation-id %q: needed with --api https://..., the SPIFFE ID of the federation: %w", k.federation, err)}
		}
		if opts.Identity, end, err = k.svid(ctx); err != nil {
			return nil, nil, err
		}
	}
	api, err := client.New(opts)
	if err != nil {
		end()
		return nil, nil, err
	}
	return api, func() {
		api.Close()
		end()
	}, nil
}

// svid follows the Workload API until the returned function is called.
func (k *connection) svid(ctx context.Context) (*identity.Source, func(), error) {
	source, err := identity.New(identity.Options{WorkloadAPI: k.workloadAPI})
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--workload-api is needed with --api https://...: %w", err)}
	}
	ctx, stop := context.WithCancel(ctx)
	var followed sync.WaitGroup
	followed.Go(func() { _ = source.Run(ctx) }) // returns nil
	end := func() {
		stop()
		followed.Wait()
	}
	wait, cancel := context.WithTimeout(ctx, svidWait)
	defer cancel()
	if err := source.WaitReady(wait); err != nil {
		end()
		return nil, nil, err
	}
	return source, end, nil
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
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
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
