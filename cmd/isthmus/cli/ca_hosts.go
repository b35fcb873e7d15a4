package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/internal/buildinfo"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/process"
	"github.com/isthmus-mesh/isthmus/identity/ca"
)

const caConfigPath = "/etc/isthmus/ca.yaml"

func newCAToken() *cobra.Command {
	var path, host string
	var ids []string
	var uid uint32
	var ttl time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "token",
		Short: "Print a single-use token with which another host joins this CA",
		Long: `Print a token with which one host may join the CA of this trust domain, once and
within its time. It pins the CA's roots, so that the host cannot join another one. With
--id the host also gets entries, beside those of the file that name it:

  isthmus ca token --host web1 --id spiffe://aws.example.org/isthmus/cluster/aws-us-east-1/gateway/gw2 --uid 990

Run it on the CA's host, as the user that the CA runs as.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if host == "" {
				return usageError{errors.New("--host is needed: the token is good for one name")}
			}
			in := ca.TokenRequest{Host: host, TTLSeconds: int64(ttl / time.Second), IDs: ids}
			if c.Flags().Changed("uid") {
				if len(ids) == 0 {
					return usageError{errors.New("--uid goes with --id: it says which user gets that ID")}
				}
				in.UID = &uid
			}
			var out ca.TokenAnswer
			if err := askCA(c.Context(), path, http.MethodPost, "/v1/tokens", in, &out); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), out)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), out.Token)
			return err
		},
	}
	f := c.Flags()
	caConfigFlag(c, &path)
	f.StringVar(&host, "host", "", "name of the host (required)")
	f.StringArrayVar(&ids, "id", nil, "SPIFFE ID that the host may hand out; may be repeated")
	f.Uint32Var(&uid, "uid", 0, "number of the user that gets the IDs (default: the agent's own user)")
	f.DurationVar(&ttl, "ttl", ca.DefaultTokenTTL, "how long the token is good for, at most 24h")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newCAHosts() *cobra.Command {
	var path string
	var asJSON bool
	c := &cobra.Command{
		Use: "hosts", Short: "List the hosts that have joined this CA, and tokens that nobody has used", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			var out ca.HostList
			if err := askCA(c.Context(), path, http.MethodGet, "/v1/hosts", nil, &out); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), out)
			}
			rows := [][]string{{"HOST", "JOINED", "SVID ENDS", "IDS"}}
			for _, h := range out.Hosts {
				rows = append(rows, []string{h.Name, ago(h.Joined), h.Expires.Format(time.RFC3339), dash(strings.Join(h.IDs, " "))})
			}
			for _, t := range out.Tokens {
				rows = append(rows, []string{t.Host, "token until " + t.Expires.Format(time.RFC3339), "-", "-"})
			}
			return table(c, rows)
		},
	}
	caConfigFlag(c, &path)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newCARevoke() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "revoke HOST",
		Short: "Refuse a host from now on",
		Long: `Refuse a host from now on, with its tokens: its agent ends and deletes what it was
given. SVIDs that its workloads hold are good until they end (svid_ttl).`,
		Args: exactArgs("HOST"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := askCA(c.Context(), path, http.MethodDelete, "/v1/hosts/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is revoked\n", args[0])
			return err
		},
	}
	caConfigFlag(c, &path)
	return c
}

func newCAAgent() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "agent",
		Short: "Join a CA on another host, and serve the Workload API on this one",
		Long: `Join the embedded CA of another host with the token that isthmus ca token printed
there, and serve the SPIFFE Workload API on this host's Unix socket until SIGTERM. The
CA's entries that name this host say which ID a user's processes get. An example:

  dir: /var/lib/isthmus/ca-agent
  socket: /run/isthmus/ca.sock
  token_file: /etc/isthmus/ca.token

The token is needed once. While the CA cannot be reached, what this host holds is
served until it ends.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.LoadCAAgent(path)
			if err != nil {
				return err
			}
			log := newLogger(c.ErrOrStderr(), cfg.Log)
			context.AfterFunc(c.Context(), func() {
				log.Info("stopping", "reason", context.Cause(c.Context()))
			})
			return process.RunCAAgent(c.Context(), cfg, log, buildinfo.Read().Version)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "/etc/isthmus/ca-agent.yaml", "configuration file")
	return c
}

func caConfigFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", caConfigPath, "configuration file of the CA, which names its directory")
}

// askCA asks the CA that the file describes.
func askCA(ctx context.Context, path, method, resource string, in, out any) error {
	cfg, err := config.LoadCA(path)
	if err != nil {
		return err
	}
	if cfg.Hosts.Address == "" {
		return fmt.Errorf("%s: hosts.address is not set: no other host can join this ca", path)
	}
	status, err := ca.AskOperator(ctx, cfg.Dir, method, resource, in, out)
	if err != nil && status == 0 {
		return fmt.Errorf("ask the ca at %s (does it run, and as this user?): %w", ca.OperatorSocket(cfg.Dir), err)
	}
	return err
}
