package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func newLinks() *cobra.Command {
	var cluster string
	c := reading("links", "List the links of the own gateways: state, round trip, loss, bytes",
		"List the links of the own gateways to those of other clusters, as each gateway sees\nthem: transport (quic, or tls where UDP does not come through), state and why it is so, round-trip time, loss, open streams, bytes.", exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			list, err := api.Links().List(ctx)
			if err != nil {
				return nil, err
			}
			list = slices.DeleteFunc(list, func(l resource.Link) bool { return cluster != "" && string(l.Cluster) != cluster })
			return &answer{Value: list, Rows: linkRows(list)}, nil
		}, changesOf((*client.Client).Links))
	c.Flags().StringVar(&cluster, "cluster", "", "links to this cluster only")
	return c
}

func linkRows(links []resource.Link) [][]string {
	rows := [][]string{{"LINK FROM", "TO", "BY", "STATE", "RTT", "LOSS", "STREAMS", "SENT", "RECEIVED"}}
	for _, l := range links {
		state := l.State
		if l.Reason != "" {
			state += " (" + l.Reason + ")"
		}
		rows = append(rows, []string{
			l.From, fmt.Sprintf("%s/%s", l.Cluster, dash(l.Gateway)), dash(l.Transport), state, ms(l.RTT), fmt.Sprintf("%.2f %%", 100*l.Loss),
			fmt.Sprint(l.Streams), size(l.BytesSent), size(l.BytesReceived),
		})
	}
	return rows
}
