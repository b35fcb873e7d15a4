package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

func newServices() *cobra.Command {
	var capacity bool
	args := func(c *cobra.Command, args []string) error {
		if !capacity {
			return exactArgs()(c, args)
		}
		if len(args) > 1 {
			return usageError{errors.New("--capacity: takes one SERVICE, or none for all")}
		}
		return nil
	}
	c := reading("services", "List services: who has them, who is offered them",
		`List the own and the imported services: how many endpoints are ready where, and to
which peers the own ones are exported.

With --capacity, of all services or of one that is named, what each cluster can take and
carries, as the own gateways told within the last seconds: endpoints, calls in flight (and
of those the own gateways'), capacity, spare and granted, in calls at once. "-" is not
known: nobody declares a capacity there, or the peer is silent.`, args,
		func(ctx context.Context, api *client.Client, args []string) (*answer, error) {
			if capacity {
				return capacities(ctx, api, args)
			}
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
	c.Use = "services [SERVICE]"
	c.Flags().BoolVar(&capacity, "capacity", false, "what each cluster can take of SERVICE, or of all")
	return c
}

func capacities(ctx context.Context, api *client.Client, args []string) (*answer, error) {
	var service catalog.ServiceName
	if len(args) == 1 {
		var err error
		if service, err = catalog.ParseServiceName(args[0]); err != nil {
			return nil, usageError{err}
		}
	}
	of, err := api.Capacities(ctx, service)
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"SERVICE", "CLUSTER", "READY", "IN FLIGHT", "OURS", "CAPACITY", "SPARE", "GRANTED"}}
	for i := range of.Items {
		rows = append(rows, capacityRow(&of.Items[i]))
	}
	var text string
	if of.Gateways == 0 {
		text = "no gateway of this cluster is heard: calls and capacities are not known\n"
	}
	if n := of.Total - len(of.Items); n > 0 {
		text += fmt.Sprintf("and %d more: name a service\n", n)
	}
	return &answer{Value: of, Rows: rows, Text: text}, nil
}

func capacityRow(c *resource.ClusterCapacity) []string {
	known := func(n uint64) string {
		if !c.Known {
			return "-"
		}
		return fmt.Sprint(n)
	}
	granted := "-" // the own cluster grants itself nothing
	if c.Granted > 0 || c.Known && !c.Own {
		granted = fmt.Sprint(c.Granted)
	}
	name := c.Service.String()
	if c.Port != "" {
		name += ":" + c.Port
	}
	return []string{
		name, string(c.Cluster), fmt.Sprintf("%d/%d", c.Ready, c.Total), fmt.Sprint(c.InFlight), fmt.Sprint(c.Ours),
		known(c.Capacity), known(c.Spare), granted,
	}
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
