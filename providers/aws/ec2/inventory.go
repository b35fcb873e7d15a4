package ec2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

const (
	// zonesFor is how long the names of an account's zones are kept: the mapping
	// is fixed when the account is made, and only grows.
	zonesFor = 24 * time.Hour
	// zonesAgain is how soon a name that is not known asks again.
	zonesAgain = time.Minute
	// filterValues is AWS's bound of the values of one filter.
	filterValues = 200
	// pageSize is AWS's bound of DescribeInstances.
	pageSize = 1000
	// maxPages bounds one list: a million instances.
	maxPages = 1000
)

// Inventory asks one region of one account. It is safe for concurrent use.
type Inventory struct {
	client func(context.Context) (*ec2.Client, error)

	mu    sync.Mutex
	zones map[string]string
	asked time.Time
}

var _ unit.Inventory = (*Inventory)(nil)

// NewInventory makes no call.
func NewInventory(open func(context.Context) (aws.Config, error)) *Inventory {
	return &Inventory{client: func(ctx context.Context) (*ec2.Client, error) {
		cfg, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return ec2.NewFromConfig(cfg), nil
	}}
}

// Zone implements unit.Inventory.
func (v *Inventory) Zone(ctx context.Context, name string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	age := time.Since(v.asked)
	id, known := v.zones[name]
	if (known && age < zonesFor) || (!known && v.zones != nil && age < zonesAgain) {
		return id, nil
	}
	zones, err := v.askZones(ctx)
	switch {
	case err == nil:
		v.zones, v.asked = zones, time.Now()
	case !known:
		return "", fmt.Errorf("ids of the zones: %w", err)
	}
	return v.zones[name], nil // an old id is as true as ever
}

func (v *Inventory) askZones(ctx context.Context) (map[string]string, error) {
	client, err := v.client(ctx)
	if err != nil {
		return nil, err
	}
	// Zones that were not opted in to are left out: nothing runs there.
	out, err := client.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		return nil, err
	}
	zones := map[string]string{}
	for _, z := range out.AvailabilityZones {
		if name, id := aws.ToString(z.ZoneName), aws.ToString(z.ZoneId); name != "" && id != "" {
			zones[name] = id
		}
	}
	if len(zones) == 0 {
		return nil, fmt.Errorf("DescribeAvailabilityZones: %w", unit.ErrAnswer) // a region has zones
	}
	return zones, nil
}

// Instances implements unit.Inventory.
func (v *Inventory) Instances(ctx context.Context, ids []string) (map[string]unit.Instance, error) {
	out := make(map[string]unit.Instance, len(ids))
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for some := range slices.Chunk(slices.Compact(ids), filterValues) {
		// A filter, not InstanceIds, which makes one unknown id an error of all.
		err := v.describe(ctx, []types.Filter{{Name: aws.String("instance-id"), Values: some}}, func(i unit.Instance) { out[i.ID] = i })
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// describe reads every page, or fails.
func (v *Inventory) describe(ctx context.Context, filters []types.Filter, each func(unit.Instance)) error {
	client, err := v.client(ctx)
	if err != nil {
		return err
	}
	in := &ec2.DescribeInstancesInput{Filters: filters, MaxResults: aws.Int32(pageSize)}
	for range maxPages {
		out, err := client.DescribeInstances(ctx, in)
		if err != nil {
			return err
		}
		if out.Reservations == nil {
			return fmt.Errorf("DescribeInstances: %w", unit.ErrAnswer)
		}
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				inst, err := v.instance(ctx, i)
				if err != nil {
					return err
				}
				each(inst)
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			return fmt.Errorf("DescribeInstances: a page leads to itself: %w", unit.ErrAnswer)
		}
		in.NextToken = out.NextToken
	}
	return fmt.Errorf("DescribeInstances: more than %d pages: %w", maxPages, unit.ErrAnswer)
}

func (v *Inventory) instance(ctx context.Context, i types.Instance) (unit.Instance, error) {
	out := unit.Instance{
		ID:      aws.ToString(i.InstanceId),
		Private: address(i.PrivateIpAddress), Public: address(i.PublicIpAddress), IPv6: address(i.Ipv6Address),
		Tags: make(map[string]string, len(i.Tags)),
	}
	if i.State != nil {
		out.State = string(i.State.Name)
	}
	for _, t := range i.Tags {
		out.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if i.Placement == nil {
		return out, nil
	}
	if out.Zone = aws.ToString(i.Placement.AvailabilityZoneId); out.Zone == "" && aws.ToString(i.Placement.AvailabilityZone) != "" {
		var err error
		if out.Zone, err = v.Zone(ctx, *i.Placement.AvailabilityZone); err != nil {
			return out, err
		}
	}
	return out, nil
}

// address is the zero value for none.
func address(s *string) netip.Addr {
	a, err := netip.ParseAddr(aws.ToString(s))
	if err != nil {
		return netip.Addr{}
	}
	return a
}
