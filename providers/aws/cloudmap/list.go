package cloudmap

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

const (
	// pageSize is AWS's bound of the lists.
	pageSize = 100
	// maxPages bounds one list.
	maxPages = 1000
)

// listed is one service that is to be read.
type listed struct {
	service
	// id is the service's own: one that was deleted and made anew has another. ""
	// where the configuration names the service.
	id string
}

// service names a service of Cloud Map.
type service struct{ namespace, name string }

// list tells which services there are.
func (r *Reader) list(ctx context.Context, client *servicediscovery.Client) ([]listed, error) {
	var all []listed
	var ids map[string]string
	for _, n := range r.opts.Namespaces {
		if len(n.Services) > 0 {
			for _, s := range n.Services {
				all = append(all, listed{service{n.Namespace, s}, ""})
			}
			continue
		}
		if ids == nil {
			var err error
			if ids, err = namespaceIDs(ctx, client); err != nil {
				return nil, err
			}
		}
		id, ok := ids[n.Namespace]
		if !ok {
			return nil, fmt.Errorf("namespace %s: %w", n.Namespace, unit.ErrMissing)
		}
		some, err := services(ctx, client, n.Namespace, id)
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", n.Namespace, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// namespaceIDs are the ids of all namespaces by their HTTP names.
func namespaceIDs(ctx context.Context, client *servicediscovery.Client) (map[string]string, error) {
	in := &servicediscovery.ListNamespacesInput{MaxResults: aws.Int32(pageSize)}
	ids := map[string]string{}
	for range maxPages {
		out, err := client.ListNamespaces(ctx, in)
		if err != nil {
			return nil, err
		}
		if out.Namespaces == nil {
			return nil, fmt.Errorf("ListNamespaces: %w", unit.ErrAnswer)
		}
		for _, n := range out.Namespaces {
			name := aws.ToString(n.Name)
			if p := n.Properties; p != nil && p.HttpProperties != nil && aws.ToString(p.HttpProperties.HttpName) != "" {
				name = *p.HttpProperties.HttpName
			}
			ids[name] = aws.ToString(n.Id)
		}
		if aws.ToString(out.NextToken) == "" {
			return ids, nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			break
		}
		in.NextToken = out.NextToken
	}
	return nil, fmt.Errorf("ListNamespaces: pages without end: %w", unit.ErrAnswer)
}

func services(ctx context.Context, client *servicediscovery.Client, namespace, id string) ([]listed, error) {
	in := &servicediscovery.ListServicesInput{
		MaxResults: aws.Int32(pageSize),
		Filters: []types.ServiceFilter{{
			Name: types.ServiceFilterNameNamespaceId, Condition: types.FilterConditionEq, Values: []string{id},
		}},
	}
	var all []listed
	for range maxPages {
		out, err := client.ListServices(ctx, in)
		if err != nil {
			return nil, err
		}
		if out.Services == nil {
			return nil, fmt.Errorf("ListServices: %w", unit.ErrAnswer)
		}
		for _, s := range out.Services {
			all = append(all, listed{service{namespace, aws.ToString(s.Name)}, aws.ToString(s.Id)})
		}
		if aws.ToString(out.NextToken) == "" {
			return unique(all), nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			break
		}
		in.NextToken = out.NextToken
	}
	return nil, fmt.Errorf("ListServices: pages without end: %w", unit.ErrAnswer)
}

// unique has each name once: a service that moves from one page to the next while
// they are read is on both.
func unique(all []listed) []listed {
	slices.SortFunc(all, func(a, b listed) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	return slices.CompactFunc(all, func(a, b listed) bool { return a.name == b.name })
}
