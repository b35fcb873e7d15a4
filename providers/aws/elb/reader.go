package elb

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Kind is the unit's kind.
const Kind = "target-groups"

const (
	// namesAtOnce is below AWS's bound of DescribeTargetGroups.
	namesAtOnce = 20
	// maxPages bounds one list.
	maxPages = 1000
)

// Options of New.
type Options struct {
	Name      unit.Name
	Shape     unit.Shape
	Rules     Rules
	Open      func(context.Context) (aws.Config, error)
	Inventory unit.Inventory
}

// Reader reads the targets of rules.
type Reader struct{ opts Options }

// New makes no call.
func New(o Options) *Reader { return &Reader{o} }

var _ unit.Reader = (*Reader)(nil)

// target is one target of a group, and where it goes.
type target struct {
	rule   Rule
	group  types.TargetGroup
	health catalog.Health
	types.TargetDescription
}

// Read implements unit.Reader.
func (r *Reader) Read(ctx context.Context, _ bool) (*unit.Content, error) {
	cfg, err := r.opts.Open(ctx)
	if err != nil {
		return nil, err
	}
	client := elbv2.NewFromConfig(cfg)
	groups, err := list(ctx, client, r.opts.Rules)
	if err != nil {
		return nil, err
	}
	var targets []target
	for _, rule := range r.opts.Rules {
		some, err := health(ctx, client, rule, groups[rule.Name])
		if err != nil {
			return nil, fmt.Errorf("target group %s: %w", rule.Name, err)
		}
		targets = append(targets, some...)
	}
	return r.place(ctx, targets)
}

// list asks for the groups of all rules; each must exist.
func list(ctx context.Context, client *elbv2.Client, rules Rules) (map[string]types.TargetGroup, error) {
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	groups := map[string]types.TargetGroup{}
	for some := range slices.Chunk(slices.Compact(names), namesAtOnce) {
		in := &elbv2.DescribeTargetGroupsInput{Names: some}
		for page := 0; ; page++ {
			out, err := client.DescribeTargetGroups(ctx, in)
			if err != nil {
				return nil, err
			}
			if out.TargetGroups == nil || page >= maxPages {
				return nil, fmt.Errorf("DescribeTargetGroups: %w", unit.ErrAnswer)
			}
			for _, g := range out.TargetGroups {
				groups[aws.ToString(g.TargetGroupName)] = g
			}
			if aws.ToString(out.NextMarker) == "" {
				break
			}
			in.Marker = out.NextMarker
		}
	}
	for _, name := range names {
		if _, ok := groups[name]; !ok {
			return nil, fmt.Errorf("target group %s: %w", name, unit.ErrMissing)
		}
	}
	return groups, nil
}

func health(ctx context.Context, client *elbv2.Client, rule Rule, group types.TargetGroup) ([]target, error) {
	out, err := client.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: group.TargetGroupArn})
	if err != nil {
		return nil, err
	}
	if out.TargetHealthDescriptions == nil {
		return nil, fmt.Errorf("DescribeTargetHealth: %w", unit.ErrAnswer)
	}
	var all []target
	for _, d := range out.TargetHealthDescriptions {
		if d.Target == nil || d.TargetHealth == nil {
			return nil, fmt.Errorf("DescribeTargetHealth: a target without its health: %w", unit.ErrAnswer)
		}
		if h, present := Health(*d.TargetHealth); present {
			all = append(all, target{rule, group, h, *d.Target})
		}
	}
	return all, nil
}

// place asks for the addresses of targets that are instances.
func (r *Reader) place(ctx context.Context, targets []target) (*unit.Content, error) {
	var ids []string
	for _, t := range targets {
		if t.group.TargetType == types.TargetTypeEnumInstance {
			ids = append(ids, aws.ToString(t.Id))
		}
	}
	instances := map[string]unit.Instance{}
	if len(ids) > 0 {
		var err error
		if instances, err = r.opts.Inventory.Instances(ctx, ids); err != nil {
			return nil, fmt.Errorf("addresses of instances: %w", err)
		}
	}
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	for _, t := range targets {
		e, err := r.endpoint(ctx, b, t, instances)
		if err != nil {
			return nil, err
		}
		if e != nil {
			b.Add(*e)
		}
	}
	return b.Content(), nil
}

// endpoint is nil for a target that has gone.
func (r *Reader) endpoint(ctx context.Context, b *unit.Builder, t target, instances map[string]unit.Instance) (*unit.Endpoint, error) {
	id, port := aws.ToString(t.Id), cmp.Or(aws.ToInt32(t.Port), aws.ToInt32(t.group.Port))
	e := &unit.Endpoint{
		Service: cmp.Or(t.rule.Service, t.rule.Name),
		ID:      fmt.Sprintf("%s/%s:%d", t.rule.Name, id, port),
		Port:    catalog.Port{Name: cmp.Or(t.rule.Port, catalog.DefaultPort), Protocol: cmp.Or(t.rule.Protocol, Protocol(t.group))},
		Number:  int(port), Health: t.health,
	}
	switch t.group.TargetType {
	case types.TargetTypeEnumInstance:
		inst, ok := instances[id]
		if !ok {
			if t.health.Usable() {
				return nil, fmt.Errorf("target %s is in use, and EC2 does not know it: %w", id, unit.ErrInconsistent)
			}
			return nil, nil
		}
		e.Address, e.Zone, e.Tags = inst.Address(r.opts.Shape.Address), inst.Zone, inst.Tags
	case types.TargetTypeEnumIp:
		e.Address, _ = netip.ParseAddr(id) // the builder counts what is none
		zone := aws.ToString(t.AvailabilityZone)
		if zone == "" || zone == "all" { // outside of the group's VPC
			return e, nil
		}
		var err error
		if e.Zone, err = r.opts.Inventory.Zone(ctx, zone); err != nil {
			return nil, err
		}
		if e.Zone == "" {
			b.Reject(unit.BadZone)
		}
	case types.TargetTypeEnumLambda, types.TargetTypeEnumAlb:
		// No address of its own; the builder counts it.
	}
	return e, nil
}

// Health is what the load balancer says of a target; false where it is none.
func Health(h types.TargetHealth) (catalog.Health, bool) {
	switch h.State {
	case types.TargetHealthStateEnumHealthy:
		return catalog.Passing, true
	case types.TargetHealthStateEnumInitial, types.TargetHealthStateEnumUnhealthy:
		return catalog.Critical, true
	case types.TargetHealthStateEnumDraining, types.TargetHealthStateEnumUnhealthyDraining:
		return catalog.Maintenance, true
	case types.TargetHealthStateEnumUnavailable:
		return catalog.Unknown, true // its checks are off
	case types.TargetHealthStateEnumUnused:
		switch h.Reason {
		case types.TargetHealthReasonEnumNotRegistered:
			return "", false
		case types.TargetHealthReasonEnumInvalidState, types.TargetHealthReasonEnumIpUnusable:
			return catalog.Critical, true // stopped, or an address of a load balancer
		default:
			return catalog.Unknown, true // no load balancer uses the group, so nothing checks
		}
	default:
		return catalog.Unknown, true
	}
}

// Protocol is what a target group's targets speak.
func Protocol(g types.TargetGroup) catalog.Protocol {
	switch g.Protocol {
	case types.ProtocolEnumHttp:
		if aws.ToString(g.ProtocolVersion) == "GRPC" {
			return catalog.GRPC
		}
		return catalog.HTTP
	case types.ProtocolEnumHttps, types.ProtocolEnumTls:
		return catalog.TLS
	case types.ProtocolEnumUdp:
		return catalog.UDP
	default:
		return catalog.TCP
	}
}
