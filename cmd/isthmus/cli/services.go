package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func newServices() *cobra.Command {
	return reading("services", "List services: who has them, who is offered them",
		"List the own and the imported services: how many endpoints are ready where, and to\nwhich peers the own ones are exported.", exactArgs(),
		func(ctx context.Context, api *client.Client, _ []string) (*answer, error) {
			list, err := api.Services().List(ctx)
			if err != nil {
				return nil, err
			}
			rows := [][]string{{"SERVICE", "PORTS", "OWN READY", "OTHERS READY", "EXPORTED TO", "CONFLICTS"}}
			for _, s := range list {
				rows = append(rows, serviceRow(s))
			}
			return &answer{Value: list, Rows: rows}, nil
		}, changesOf((*client.Client).Services))
}

func serviceRow(s resource.Service) []string {
	var ports, offers, to []string
	for _, p := range s.Ports {
		ports = append(ports, p.Name+"/"+string(p.Protocol))
	}
	for _, o := range s.Remote {
		offers = append(offers, fmt.Sprintf("%s %d/%d", o.Cluster, o.Ready, o.Total))
	}
	for _, c := range s.ExportedTo {
		to = append(to, string(c))
	}
	return []string{
		s.Name.String(), strings.Join(ports, " "), fmt.Sprintf("%d/%d", s.Ready, s.Endpoints),
		dash(strings.Join(offers, ", ")), dash(strings.Join(to, ", ")), fmt.Sprint(len(s.Conflicts)),
	}
}
