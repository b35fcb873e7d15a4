package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// status is what `isthmus status --json` prints.
type status struct {
	Version  resource.Version   `json:"version"`
	Ready    resource.Readiness `json:"ready"`
	Clusters []resource.Cluster `json:"clusters"`
	Peers    []resource.Peer    `json:"peers"`
	Gateways []resource.Gateway `json:"gateways"`
	Links    []resource.Link    `json:"links"`
	Sources  []resource.Source  `json:"sources"`
	Replicas []resource.Replica `json:"replicas"`
	// Troubles says what is not as it should be, in words.
	Troubles []string `json:"troubles"`
}

func newStatus() *cobra.Command {
	return reading("status", "Show clusters, gateways, links and sources, and what is wrong with them",
		`Show clusters, gateways, links and sources of the cluster whose federation is asked, and
what is wrong with them. Where the cluster has several federations, they are shown, too,
with the one that speaks to peers (the exporter).`, exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			s, err := readStatus(ctx, api)
			if err != nil {
				return nil, err
			}
			return &answer{Value: s, Rows: s.rows(), Text: s.trouble()}, nil
		},
		changesOf((*client.Client).Clusters), changesOf((*client.Client).Peers), changesOf((*client.Client).Gateways),
		changesOf((*client.Client).Links), changesOf((*client.Client).Sources),
		changesOf((*client.Client).Replicas))
}

func readStatus(ctx context.Context, api *client.Client) (*status, error) {
	var s status
	var err error
	if s.Version, err = api.Version(ctx); err != nil {
		return nil, err // one reason is enough where nobody answers
	}
	var errs [7]error
	s.Clusters, errs[0] = api.Clusters().List(ctx)
	s.Peers, errs[1] = api.Peers().List(ctx)
	s.Gateways, errs[2] = api.Gateways().List(ctx)
	s.Links, errs[3] = api.Links().List(ctx)
	s.Sources, errs[4] = api.Sources().List(ctx)
	s.Replicas, errs[5] = api.Replicas().List(ctx)
	s.Ready, errs[6] = api.Readiness(ctx)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	s.Troubles = s.troubles()
	return &s, nil
}

func (s *status) troubles() []string {
	out := []string{}
	for _, r := range s.Ready.Reasons {
		out = append(out, "federation not ready: "+r)
	}
	for _, d := range s.Ready.Degraded {
		out = append(out, "federation degraded: "+d)
	}
	for _, p := range s.Peers {
		if p.State != resource.PeerOK {
			out = append(out, fmt.Sprintf("peer %s: %s %s", p.Name, p.State, p.Reason))
		}
		if p.Trust != nil && p.Trust.Endpoint != nil && p.Trust.Endpoint.State == "failing" {
			out = append(out, fmt.Sprintf("peer %s: bundle endpoint fails, last good answer %s: %s", p.Name, ago(p.Trust.Endpoint.FetchedAt), p.Trust.Endpoint.Error))
		}
	}
	for _, g := range s.Gateways {
		switch {
		case g.State != "alive":
			out = append(out, fmt.Sprintf("gateway %s: %s, last report %s", g.Name, g.State, ago(g.ReportedAt)))
		case g.LinksUp < g.Links:
			out = append(out, fmt.Sprintf("gateway %s: %d of %d links are up", g.Name, g.LinksUp, g.Links))
		}
	}
	for _, g := range s.Gateways {
		if g.Switches != "" {
			out = append(out, fmt.Sprintf("gateway %s has switches set by hand: %s", g.Name, g.Switches))
		}
	}
	if len(s.Gateways) == 0 {
		out = append(out, "no gateway has reported")
	}
	for _, src := range s.Sources {
		if src.State != "ok" {
			out = append(out, fmt.Sprintf("source %s: %s %s", src.Name, src.State, src.Error))
		}
		if src.Refused > 0 {
			out = append(out, fmt.Sprintf("source %s: %d endpoints left out, their addresses are not in its allow list", src.Name, src.Refused))
		}
	}
	if len(s.Replicas) > 0 && !slices.ContainsFunc(s.Replicas, func(r resource.Replica) bool { return r.Exporter }) {
		out = append(out, "no federation speaks to peers: none holds the exporter's lease")
	}
	return out
}

func (s *status) rows() [][]string {
	rows := [][]string{{"CLUSTER", "LOCALITY", "STATE", "GATEWAYS", "SERVICES"}}
	for _, v := range s.Clusters {
		name := string(v.Name)
		if v.Own {
			name += " (own)"
		}
		rows = append(rows, []string{name, v.Locality.String(), string(v.State), fmt.Sprint(v.Gateways), fmt.Sprint(v.Services)})
	}
	rows = append(rows, nil, []string{"GATEWAY", "STATE", "REPORT", "LINKS UP", "TABLE"})
	for _, g := range s.Gateways {
		rows = append(rows, []string{g.Name, g.State, ago(g.ReportedAt), fmt.Sprintf("%d of %d", g.LinksUp, g.Links), fmt.Sprintf("%d.%d", g.Epoch, g.Version)})
	}
	rows = append(rows, nil)
	rows = append(rows, linkRows(s.Links)...)
	rows = append(rows, nil, []string{"SOURCE", "KIND", "STATE", "LAST READ", "SERVICES", "ENDPOINTS", "HELD BACK"})
	for _, v := range s.Sources {
		rows = append(rows, []string{v.Name, v.Kind, v.State, ago(v.LastSuccess), fmt.Sprint(v.Services), fmt.Sprint(v.Endpoints), fmt.Sprint(len(v.Quarantined))})
	}
	if len(s.Replicas) > 1 {
		rows = append(rows, nil)
		rows = append(rows, replicaRows(s.Replicas)...)
	}
	return rows
}

func replicaRows(replicas []resource.Replica) [][]string {
	rows := [][]string{{"FEDERATION", "ROLE", "ADDRESS", "BUILD", "STARTED"}}
	for _, r := range replicas {
		name, role := r.Name, "replica"
		if r.Self {
			name += " (asked)"
		}
		if r.Exporter {
			role = "exporter"
		}
		rows = append(rows, []string{name, role, r.Address, dash(r.Build), ago(r.StartedAt)})
	}
	return rows
}

// trouble is what is wrong, one line each.
func (s *status) trouble() string {
	var b strings.Builder
	for _, t := range s.Troubles {
		b.WriteString("! " + t + "\n")
	}
	return b.String()
}

func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d B", n)
	}
}
