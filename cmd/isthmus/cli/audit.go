package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func newAudit() *cobra.Command {
	var last int
	c := reading("audit", "Show the audit log: who tried what, from where, and what came of it",
		`Show the audit log of the federation that is asked, the newest last. It takes the role
admin. Where isthmus history tells what changed, the audit log also tells what was refused
and what failed.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			entries := []resource.AuditEntry{}
			for e, err := range api.Audit(ctx) {
				if err != nil {
					return nil, err
				}
				if entries = append(entries, e); len(entries) == last {
					break
				}
			}
			slices.Reverse(entries)
			rows := [][]string{{"ENTRY", "AT", "PHASE", "WHO", "ROLE", "FROM", "WHAT", "STATUS", "REASON"}}
			for _, e := range entries {
				status := "-"
				if e.Status != 0 {
					status = fmt.Sprint(e.Status)
				}
				rows = append(rows, []string{
					number(e.Sequence), e.At.UTC().Format(time.RFC3339), string(e.Phase), dash(e.Principal), dash(e.Role),
					dash(strings.TrimSpace(e.Way + " " + e.From)), dash(strings.TrimSpace(e.Method + " " + e.Resource)), status, dash(e.Reason),
				})
			}
			return &answer{Value: entries, Rows: rows}, nil
		})
	c.Flags().IntVar(&last, "last", 100, "the last so many; 0 is all")
	c.AddCommand(newAuditVerify())
	return c
}

// errNotIntact is the exit code 1 of audit verify; the problems are its output.
var errNotIntact = errors.New("the audit log is not what was written")

func newAuditVerify() *cobra.Command {
	k := &connection{}
	c := &cobra.Command{
		Use: "verify", Short: "Judge every entry of the audit log and the chain between them", Args: exactArgs(),
		Long: `Have the federation read its whole audit log anew. Keep the printed head elsewhere: only a
head that was kept shows that nothing was cut off at the end. The exit code is 1 where the
log is not intact.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, end, err := k.open(c.Context())
			if err != nil {
				return err
			}
			defer end()
			r, err := api.VerifyAudit(c.Context())
			if err != nil {
				return err
			}
			if k.json {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				_, err = fmt.Fprint(c.OutOrStdout(), auditText(r))
			}
			if err == nil && !r.Intact {
				return errNotIntact
			}
			return err
		},
	}
	k.flags(c)
	return c
}

func auditText(r resource.AuditReport) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s:%d: %s\n", p.File, p.Line, p.What)
	}
	if r.Intact {
		fmt.Fprintf(&b, "intact: entries %d to %d in %d files\n", r.First, r.Last, r.Files)
	}
	fmt.Fprintf(&b, "head %s\n", r.Head)
	return b.String()
}
