package ecs

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// The states of a task's life, which the SDK has no constants for.
const (
	running      = "RUNNING"
	stopped      = "STOPPED"
	provisioning = "PROVISIONING"
	pending      = "PENDING"
	activating   = "ACTIVATING"
)

// Health is what ECS says of a task: the health of its essential containers while
// it runs. False where there is no task any more. One that is to stop is in
// maintenance from then on, which is before it ends.
func Health(t types.Task) (catalog.Health, bool) {
	switch last := aws.ToString(t.LastStatus); {
	case last == stopped:
		return "", false
	case aws.ToString(t.DesiredStatus) == stopped:
		return catalog.Maintenance, true
	case last == running:
		return healthOf(t), true
	case last == provisioning || last == pending || last == activating:
		return catalog.Critical, true
	default: // deactivating, stopping, deprovisioning, and what is new
		return catalog.Maintenance, true
	}
}

// healthOf is the task's health: that of its essential containers, or, where ECS
// does not sum it up, of all its containers. Without health checks it is not known.
func healthOf(t types.Task) catalog.Health {
	statuses := []types.HealthStatus{t.HealthStatus}
	if t.HealthStatus == "" {
		statuses = nil
		for _, c := range t.Containers {
			statuses = append(statuses, c.HealthStatus)
		}
	}
	switch {
	case slices.Contains(statuses, types.HealthStatusUnhealthy):
		return catalog.Critical
	case slices.Contains(statuses, types.HealthStatusHealthy): // others have no check
		return catalog.Passing
	default:
		return catalog.Unknown
	}
}

// addressOf is the address of the task's network interface; the zero value where
// it has none of its own.
func addressOf(t types.Task, choice unit.Address) netip.Addr {
	key := "privateIPv4Address"
	if choice == unit.IPv6 {
		key = "privateIPv6Address"
	}
	for _, a := range t.Attachments {
		if s := aws.ToString(a.Status); s == "DETACHED" || s == "DELETED" {
			continue
		}
		for _, d := range a.Details {
			if aws.ToString(d.Name) == key {
				return parse(d.Value)
			}
		}
	}
	for _, c := range t.Containers {
		for _, n := range c.NetworkInterfaces {
			a := parse(n.PrivateIpv4Address)
			if choice == unit.IPv6 {
				a = parse(n.Ipv6Address)
			}
			if a.IsValid() {
				return a
			}
		}
	}
	return netip.Addr{}
}

func parse(s *string) netip.Addr {
	a, err := netip.ParseAddr(aws.ToString(s))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// mappings are the ports of a task definition. A mapping without a name is the
// default port where it is the only one, else port-NUMBER.
func mappings(d *types.TaskDefinition) []unit.Port {
	var ports []unit.Port
	seen := map[string]bool{}
	for _, c := range d.ContainerDefinitions {
		for _, m := range c.PortMappings {
			n := aws.ToInt32(m.ContainerPort)
			if n < 1 || n > 65535 {
				continue // a range: which of it serves is not said
			}
			p := unit.Port{Name: aws.ToString(m.Name), Port: uint16(n), Protocol: protocol(m)}
			if !unit.IsLabel(p.Name) || seen[p.Name] {
				p.Name = fmt.Sprintf("port-%d", n)
			}
			if seen[p.Name] {
				continue // the same number over another protocol
			}
			seen[p.Name] = true
			ports = append(ports, p)
		}
	}
	if len(ports) == 1 && ports[0].Name == fmt.Sprintf("port-%d", ports[0].Port) {
		ports[0].Name = catalog.DefaultPort
	}
	return ports[:min(len(ports), catalog.MaxPorts)]
}

func protocol(m types.PortMapping) catalog.Protocol {
	switch m.AppProtocol {
	case types.ApplicationProtocolHttp, types.ApplicationProtocolHttp2:
		return catalog.HTTP
	case types.ApplicationProtocolGrpc:
		return catalog.GRPC
	}
	if m.Protocol == types.TransportProtocolUdp {
		return catalog.UDP
	}
	return catalog.TCP
}
