package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// maxPasted bounds a token on standard input.
const maxPasted = 16 << 10

func newPeerInvite() *cobra.Command {
	k := &connection{}
	var in resource.InviteRequest
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "invite",
		Short: "Print a token that makes another cluster a peer, once",
		Long: `Print a token for the operator of another cluster, who accepts it there with isthmus peer
accept. It is good once and for a short time, and it is a secret: whoever accepts it first
becomes the peer. With --to NAME only a cluster that is called so can accept it; with --to
CARD (what isthmus peer card prints there) nobody else can, not even with a stolen token.

Without --asserts the gateways of the peer may speak for callers of the peer's own trust
domain, where that is neither this cluster's nor another peer's, and for nobody otherwise.`,
		Example: `  isthmus peer invite --to gcp-us-central1
  isthmus peer invite --to gcp-us-central1 --asserts 'spiffe://gcp.example.org/apps/*' --ttl 1h`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			in.TTL = ttl.String()
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			made, err := api.Invite(c.Context(), in)
			if err != nil {
				return err
			}
			if k.json {
				return printJSON(c.OutOrStdout(), made)
			}
			// The token alone on standard output: it can be piped.
			if err := say(c.OutOrStdout(), made.Token); err != nil {
				return err
			}
			whom := "a cluster"
			if made.To != "" {
				whom = string(made.To)
			}
			lines := []string{
				fmt.Sprintf("Invitation %s for %s, good until %s. On a host of that cluster:", made.ID[:8], whom, made.ExpiresAt.Local().Format(time.TimeOnly)),
				"  isthmus peer accept TOKEN",
			}
			if len(made.Gateways) == 0 {
				lines = append(lines, "No gateway of this cluster can be dialed (gateway.advertise): accepting it prints a token to accept here.")
			}
			return say(c.ErrOrStderr(), lines...)
		},
	}
	k.flags(c)
	c.Flags().StringVar(&in.To, "to", "", "name of the invited cluster, or its card (isthmus peer card)")
	c.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "how long the token is good, 1s to 24h")
	c.Flags().StringSliceVar(&in.Asserts, "asserts", nil, "SPIFFE ID pattern of callers that the peer may speak for (repeatable)")
	return c
}

func newPeerAccept() *cobra.Command {
	k := &connection{}
	var in resource.AcceptRequest
	var dryRun bool
	c := &cobra.Command{
		Use:   "accept TOKEN",
		Short: "Accept an invitation: both clusters are peers afterwards",
		Long: `Accept the token that isthmus peer invite printed in another cluster. TOKEN may be - to read
it from standard input, where no list of processes and no shell's history keeps it.

With --dry-run nobody is asked and nothing is written: it shows who would be trusted, and
for what. If the command fails half way, run it again with the same token.`,
		Example: `  isthmus peer accept isthmus-invite-1-...
  pbpaste | isthmus peer accept -`,
		Args: exactArgs("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			in.Token = args[0]
			if in.Token == "-" {
				pasted, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxPasted))
				if err != nil {
					return err
				}
				in.Token = string(pasted)
			}
			in.Token = strings.Join(strings.Fields(in.Token), "")
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			out, err := api.AcceptInvitation(c.Context(), in, dryRun)
			if err != nil {
				return err
			}
			if k.json {
				return printJSON(c.OutOrStdout(), out)
			}
			return sayAccepted(c, &out, dryRun)
		},
	}
	k.flags(c)
	c.Flags().StringSliceVar(&in.Asserts, "asserts", nil, "SPIFFE ID pattern of callers that the inviter's gateways may speak for (repeatable)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be trusted, do nothing")
	return c
}

func sayAccepted(c *cobra.Command, out *resource.Accepted, dryRun bool) error {
	p := out.Peer
	switch {
	case dryRun:
		return table(c, [][]string{
			{"would become a peer", string(p.Name)},
			{"federation", p.ID},
			{"trusted for", "identities of " + out.TrustDomain + ", and no other"},
			{"recognised by", strings.Join(out.Anchors, ", ")},
			{"reached at", dash(strings.Join(p.Gateways, ", "))},
			{"may speak for", patternTexts(p.Asserts)},
			{"token expires", out.ExpiresAt.Local().Format(time.DateTime)},
		})
	case out.ReturnToken != "":
		if err := say(c.OutOrStdout(), out.ReturnToken); err != nil {
			return err
		}
		return say(c.ErrOrStderr(),
			fmt.Sprintf("%s cannot be dialed from here. Take this token back; on a host of %s:", p.Name, p.Name),
			"  isthmus peer accept TOKEN")
	default:
		return say(c.OutOrStdout(),
			fmt.Sprintf("%s (%s) is a peer now, and this cluster is one of its.", p.Name, p.ID),
			"It may speak for: "+patternTexts(p.Asserts),
			"Next: isthmus peer list; then isthmus export add, isthmus import add and an intention say what may be called.")
	}
}

func newPeerInvitations() *cobra.Command {
	return reading("invitations", "List invitations, and who took them",
		`List the invitations of the last day. A state of completed names the peer that it made;
if that is not who was invited, somebody has stolen the token: isthmus peer remove.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			list, err := api.Invitations(ctx)
			if err != nil {
				return nil, err
			}
			rows := [][]string{{"ID", "STATE", "TO", "EXPIRES", "TAKEN BY"}}
			for _, i := range list {
				by := "-"
				if i.Cluster != "" {
					by = fmt.Sprintf("%s (%s)", i.Cluster, i.Federation)
				}
				to := dash(string(i.To))
				if i.ToID != "" {
					to += " (" + i.ToID + ")"
				}
				rows = append(rows, []string{i.ID, i.State, to, i.ExpiresAt.Local().Format(time.DateTime), by})
			}
			return &answer{Value: list, Rows: rows}, nil
		})
}

func newPeerRevoke() *cobra.Command {
	k := &connection{}
	c := &cobra.Command{
		Use:   "revoke-invitation ID",
		Short: "Make an invitation worthless at once",
		Long: `Make an invitation worthless at once. ID is that of isthmus peer invitations. A peer that the
invitation has made already stays: isthmus peer remove.`,
		Args: exactArgs("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			i, err := api.RevokeInvitation(c.Context(), args[0])
			if err != nil {
				return err
			}
			if k.json {
				return printJSON(c.OutOrStdout(), i)
			}
			if i.State == "completed" {
				return say(c.OutOrStdout(), fmt.Sprintf("invitation %s has made %s a peer already; to part from it: isthmus peer remove %s", i.ID, i.Cluster, i.Cluster))
			}
			return say(c.OutOrStdout(), fmt.Sprintf("invitation %s is %s", i.ID, i.State))
		},
	}
	k.flags(c)
	return c
}

func newPeerCard() *cobra.Command {
	return reading("card", "Print who this cluster is, for an invitation that nobody else can use",
		`Print this cluster's card: its name, its federation's SPIFFE ID and the hashes of its
authorities. Nothing in it is secret. Whoever invites this cluster can pass it to
isthmus peer invite --to CARD; the token is worthless to anybody else then.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			card, err := api.Card(ctx)
			if err != nil {
				return nil, err
			}
			return &answer{Value: card, Text: card.Card + "\n"}, nil
		})
}
