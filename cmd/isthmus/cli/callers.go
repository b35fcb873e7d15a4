package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// callersEvery is how often callers are asked for while they are watched: they are
// no list with revisions, and gateways report about once a second.
const callersEvery = 2 * time.Second

func newPolicyCallers() *cobra.Command {
	var service string
	var since time.Duration
	var denied bool
	c := reading("callers", "List who was seen to call what, and how it was judged",
		`List who was seen to call the own cluster's services in the last hour, how often, and
which intention allowed or denied it: the most recent first. CLUSTER is the peer whose
gateway spoke for the caller. A path that ends in * is the beginning of longer ones.

Look here before an intention is written, and after; a caller that calls once a day may
not be among them.`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			name, err := callersOf(service, since)
			if err != nil {
				return nil, err
			}
			list, err := api.Callers(ctx, name, since)
			if err != nil {
				return nil, err
			}
			list.Items = slices.DeleteFunc(list.Items, func(s route.Sighting) bool { return denied && s.Allowed })
			slices.SortStableFunc(list.Items, func(a, b route.Sighting) int { return b.LastSeen.Compare(a.LastSeen) })
			return &answer{Value: list, Rows: callerRows(list.Items), Text: callersNote(list)}, nil
		}, periodic)
	c.Flags().StringVar(&service, "service", "", "callers of this service only: name.namespace")
	c.Flags().DurationVar(&since, "since", 0, "callers of the last 15m ... only, at most 1h (default 1h)")
	c.Flags().BoolVar(&denied, "denied", false, "callers that were denied only")
	return c
}

// callersOf checks the flags.
func callersOf(service string, since time.Duration) (name catalog.ServiceName, err error) {
	if since < 0 || since > resource.MaxCallersWindow {
		return name, usageError{fmt.Errorf("--since %v: must be above 0 and at most %v, callers are not remembered for longer", since, resource.MaxCallersWindow)}
	}
	if service == "" {
		return name, nil
	}
	if name, err = catalog.ParseServiceName(service); err != nil {
		return name, usageError{fmt.Errorf("--service: %w", err)}
	}
	return name, nil
}

func callerRows(list []route.Sighting) [][]string {
	rows := [][]string{{"SERVICE", "CALLER", "CLUSTER", "REQUEST", "VERDICT", "RULE", "CALLS", "LAST"}}
	for _, s := range list {
		verdict := "allowed"
		if !s.Allowed {
			verdict = "denied (" + s.Reason + ")"
		}
		rows = append(rows, []string{
			s.Service.String(), dash(s.Caller), dash(string(s.Peer)), requestSeen(s.SightingKey), verdict, dash(s.Rule), fmt.Sprint(s.Count), ago(s.LastSeen),
		})
	}
	return rows
}

// requestSeen is what was asked for; "-" of a connection that shows no requests.
func requestSeen(k route.SightingKey) string {
	path := k.Path
	if k.Prefix {
		path += "*"
	}
	if k.Method == "" {
		return dash(path)
	}
	return k.Method + " " + path
}

// callersNote says what the list does not show.
func callersNote(c *resource.Callers) string {
	note := ""
	if c.Total > resource.MaxCallers {
		note += fmt.Sprintf("! %d more are not shown; narrow by --service or --since\n", c.Total-resource.MaxCallers)
	}
	if c.Dropped > 0 {
		note += fmt.Sprintf("! %d calls were not kept since the start: more callers than fit\n", c.Dropped)
	}
	return note
}

// periodic wakes a watch by the clock.
func periodic(ctx context.Context, _ *client.Client, changed func()) error {
	for pause(ctx, callersEvery) {
		changed()
	}
	return ctx.Err()
}
