package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func newPeer() *cobra.Command {
	c := &cobra.Command{
		Use:   "peer",
		Short: "Join clusters and part them: invite, accept, list, remove",
		Long: `Join two clusters by one paste. On a host of the first cluster:

  isthmus peer invite --to gcp-us-central1

It prints a token, which is good once and for ten minutes. On a host of the second:

  isthmus peer accept TOKEN

Both are peers of each other then: their gateways link up and their federations talk.
What each offers and allows is said by exports, imports and intentions, and is nothing
until then. A cluster that nobody can dial may invite too: accepting its token prints
another one to take back.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPeerInvite(), newPeerAccept(), newPeerList(), newPeerShow(), newPeerRemove(),
		newPeerInvitations(), newPeerRevoke(), newPeerCard())
	return c
}

func peerList(api *client.Client) client.Collection[resource.Peer] { return api.Peers() }

func newPeerList() *cobra.Command {
	return reading("list", "List the peers, and how much of each is heard",
		`List the peers. ORIGIN says where a peer is kept: config (the configuration file, and
changed there) or api (joined by a token, or written over the API).`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			list, err := api.Peers().List(ctx)
			if err != nil {
				return nil, err
			}
			rows := [][]string{{"NAME", "STATE", "ID", "GATEWAYS", "OFFERED", "IMPORTED", "HEARD", "ORIGIN"}}
			for _, p := range list {
				rows = append(rows, []string{
					string(p.Name), string(p.State), p.ID, strconv.Itoa(len(p.Gateways)), strconv.Itoa(p.Offered),
					strconv.Itoa(p.Imported), ago(p.HeardAt), dash(string(p.Origin)),
				})
			}
			a := &answer{Value: list, Rows: rows}
			if len(list) == 0 {
				a.Text = "No peers yet. Invite one: isthmus peer invite --to NAME\n"
			}
			return a, nil
		}, changesOf(peerList))
}

func newPeerShow() *cobra.Command {
	return reading("show NAME", "Show one peer: who it is, where its gateways are, what it may assert", "", exactArgs("NAME"),
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			p, err := api.Peers().Get(ctx, args[0])
			if err != nil {
				return nil, err
			}
			return &answer{Value: p, Rows: describePeer(&p)}, nil
		}, changesOf(peerList))
}

func describePeer(p *resource.Peer) [][]string {
	roster := make([]string, 0, len(p.Gateways))
	for _, g := range p.Gateways {
		s := g.Name + " (" + dash(strings.Join(g.Addresses, ", ")) + ")"
		if g.Draining {
			s += " draining"
		}
		roster = append(roster, s)
	}
	place := dash(strings.Trim(p.Locality.Cloud+"/"+p.Locality.Region, "/"))
	state := string(p.State)
	if p.Reason != "" {
		state += ": " + p.Reason
	}
	return [][]string{
		{"name", string(p.Name)},
		{"id", p.ID},
		{"trust domain", p.TrustDomain},
		{"state", state},
		{"heard", ago(p.HeardAt)},
		{"place", place},
		{"gateways", dash(strings.Join(roster, "; "))},
		{"bootstrap", dash(strings.Join(p.Bootstrap, ", "))},
		{"asserts", dash(patterns(p.Asserts))},
		{"bundle", describeTrust(p.Trust)},
		{"services", fmt.Sprintf("%d offered, %d imported", p.Offered, p.Imported)},
		{"origin", dash(string(p.Origin))},
	}
}

// describeTrust says which bundle of the peer's trust domain is held.
func describeTrust(t *resource.PeerTrust) string {
	if t == nil {
		return "-"
	}
	s := "none is held: no link can come up"
	if t.Held {
		s = fmt.Sprintf("%d roots, from %s, taken %s", t.Authorities, dash(t.From), ago(t.TakenAt))
	}
	if t.Error != "" {
		s += "; refused: " + t.Error
	}
	if e := t.Endpoint; e != nil {
		s += fmt.Sprintf("; endpoint %s %s", e.URL, e.State)
		if e.Error != "" {
			s += ": " + e.Error
		}
	}
	return s
}

func newPeerRemove() *cobra.Command {
	w := &writing{}
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Part from a peer at once",
		Long: `Part from a peer at once: links to and from it are closed, its trust domain's bundle is
forgotten, and it is told nothing any more. Its own entry of this cluster stays, and is
of no use. Whoever was removed comes back by a new invitation only.`,
		Args: exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			api, end, err := w.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			api = api.WithReason(w.reason)
			version, err := api.Version(c.Context())
			if err != nil {
				return err
			}
			have, err := api.Peers().Get(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := api.PeerRules().Delete(c.Context(), args[0], have.ETag, w.dryRun); err != nil {
				return err
			}
			if w.json {
				return printJSON(c.OutOrStdout(), have)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "peer %s (%s) %s from %s: links, bundle and what it was told\n",
				have.Name, have.ID, w.said("removed"), version.Cluster)
			return err
		},
	}
	w.flags(c)
	return c
}

func patternTexts(ps []policy.IDPattern) string {
	if len(ps) == 0 {
		return "nobody: name callers with --asserts, or no intention here can allow one of them"
	}
	return patterns(ps)
}

// say prints lines.
func say(w io.Writer, lines ...string) error {
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
