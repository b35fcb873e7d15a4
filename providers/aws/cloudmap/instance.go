package cloudmap

import (
	"cmp"
	"context"
	"net/netip"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// The attributes of an instance that mean something: Cloud Map's own, what ECS
// adds, and ours.
const (
	attrIPv4     = "AWS_INSTANCE_IPV4"
	attrIPv6     = "AWS_INSTANCE_IPV6"
	attrPort     = "AWS_INSTANCE_PORT"
	attrZone     = "AVAILABILITY_ZONE"
	attrProtocol = "isthmus-protocol"
)

// add maps the instances of one service.
func (r *Reader) add(ctx context.Context, b *unit.Builder, n Namespace, name string, instances []types.HttpInstanceSummary) error {
	for _, i := range instances {
		attrs := i.Attributes
		// The builder counts what is none.
		port, _ := strconv.Atoi(attrs[attrPort])
		e := unit.Endpoint{
			Service: name, ID: n.Namespace + "/" + name + "/" + aws.ToString(i.InstanceId),
			Port:    catalog.Port{Name: catalog.DefaultPort, Protocol: protocol(attrs, n)},
			Address: address(attrs, r.opts.Shape.Address), Number: port,
			Health: Health(i.HealthStatus), Tags: attrs,
		}
		if zone := attrs[attrZone]; zone != "" {
			var err error
			if e.Zone, err = r.opts.Inventory.Zone(ctx, zone); err != nil {
				return err
			}
			if e.Zone == "" {
				b.Reject(unit.BadZone)
			}
		}
		b.Add(e)
	}
	return nil
}

func protocol(attrs map[string]string, n Namespace) catalog.Protocol {
	if p := catalog.Protocol(attrs[attrProtocol]); p.Valid() {
		return p
	}
	return cmp.Or(n.Protocol, catalog.TCP)
}

// address is the zero value where there is none: an instance that is only a name
// (AWS_INSTANCE_CNAME), or a load balancer's.
func address(attrs map[string]string, choice unit.Address) netip.Addr {
	keys := []string{attrIPv4, attrIPv6}
	if choice == unit.IPv6 {
		keys = []string{attrIPv6}
	}
	for _, k := range keys {
		if a, err := netip.ParseAddr(attrs[k]); err == nil {
			return a
		}
	}
	return netip.Addr{}
}

// Health is what Cloud Map says of an instance.
func Health(h types.HealthStatus) catalog.Health {
	switch h {
	case types.HealthStatusHealthy:
		return catalog.Passing
	case types.HealthStatusUnhealthy:
		return catalog.Critical
	case types.HealthStatusUnknown:
		return catalog.Unknown
	default:
		return catalog.Unknown
	}
}
