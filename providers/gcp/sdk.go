package gcp

import (
	"context"
	"errors"
	"net/http"
	"time"

	compute "cloud.google.com/go/compute/apiv1"
	directory "cloud.google.com/go/servicedirectory/apiv1"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
)

// sdk are the client library's clients for one project, all of them REST over
// one transport.
type sdk struct {
	instances       *compute.InstancesClient
	groups          *compute.InstanceGroupManagersClient
	regionGroups    *compute.RegionInstanceGroupManagersClient
	endpoints       *compute.NetworkEndpointGroupsClient
	regionEndpoints *compute.RegionNetworkEndpointGroupsClient
	directory       *directory.RegistrationClient
}

// retries are for a server that is overloaded or restarts, within the deadline
// of the call; the library's own go on for ten minutes.
func retries() []gax.CallOption {
	return []gax.CallOption{gax.WithRetry(func() gax.Retryer {
		return gax.OnHTTPCodes(gax.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2},
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
	})}
}

func newSDK(ctx context.Context, c Config, client *http.Client) (*sdk, error) {
	options := func(endpoint string) []option.ClientOption {
		o := []option.ClientOption{option.WithHTTPClient(client)}
		if endpoint != "" {
			o = append(o, option.WithEndpoint(endpoint))
		}
		return o
	}
	onCompute, onDirectory := options(c.ComputeEndpoint), options(c.ServiceDirectoryEndpoint)
	var s sdk
	var errs [6]error
	s.instances, errs[0] = compute.NewInstancesRESTClient(ctx, onCompute...)
	s.groups, errs[1] = compute.NewInstanceGroupManagersRESTClient(ctx, onCompute...)
	s.regionGroups, errs[2] = compute.NewRegionInstanceGroupManagersRESTClient(ctx, onCompute...)
	s.endpoints, errs[3] = compute.NewNetworkEndpointGroupsRESTClient(ctx, onCompute...)
	s.regionEndpoints, errs[4] = compute.NewRegionNetworkEndpointGroupsRESTClient(ctx, onCompute...)
	s.directory, errs[5] = directory.NewRegistrationRESTClient(ctx, onDirectory...)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	s.instances.CallOptions.AggregatedList = retries()
	s.groups.CallOptions.AggregatedList = retries()
	s.groups.CallOptions.ListManagedInstances = retries()
	s.regionGroups.CallOptions.ListManagedInstances = retries()
	s.endpoints.CallOptions.AggregatedList = retries()
	s.endpoints.CallOptions.ListNetworkEndpoints = retries()
	s.regionEndpoints.CallOptions.ListNetworkEndpoints = retries()
	s.directory.CallOptions.ListNamespaces = retries()
	s.directory.CallOptions.ListServices = retries()
	s.directory.CallOptions.ListEndpoints = retries()
	return &s, nil
}
