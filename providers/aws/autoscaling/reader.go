package autoscaling

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Kind is the unit's kind.
const Kind = "auto-scaling"

const (
	// pageSize and namesAtOnce are AWS's bounds of DescribeAutoScalingGroups.
	pageSize    = 100
	namesAtOnce = 50
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

// Reader reads the groups of rules.
type Reader struct{ opts Options }

// New makes no call.
func New(o Options) *Reader { return &Reader{o} }

var _ unit.Reader = (*Reader)(nil)

// member is one instance of a group, and where it goes.
type member struct {
	service  string
	ports    []unit.Port
	tags     map[string]string
	health   catalog.Health
	id, zone string
}

// Read implements unit.Reader.
func (r *Reader) Read(ctx context.Context, _ bool) (*unit.Content, error) {
	cfg, err := r.opts.Open(ctx)
	if err != nil {
		return nil, err
	}
	client := autoscaling.NewFromConfig(cfg)
	var members []member
	for i, rule := range r.opts.Rules {
		groups, err := list(ctx, client, rule)
		if err != nil {
			return nil, fmt.Errorf("auto_scaling[%d]: %w", i, err)
		}
		for _, g := range groups {
			members = append(members, membersOf(rule, g)...)
		}
	}
	return r.place(ctx, members)
}

// list reads the groups of a rule: all of them, or it fails.
func list(ctx context.Context, client *autoscaling.Client, rule Rule) ([]types.AutoScalingGroup, error) {
	if len(rule.Groups) == 0 {
		return pages(ctx, client, autoscaling.DescribeAutoScalingGroupsInput{Filters: filters(rule.Tags)})
	}
	var all []types.AutoScalingGroup
	for names := range slices.Chunk(rule.Groups, namesAtOnce) {
		some, err := pages(ctx, client, autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: names})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	for _, name := range rule.Groups {
		if !slices.ContainsFunc(all, func(g types.AutoScalingGroup) bool { return aws.ToString(g.AutoScalingGroupName) == name }) {
			return nil, fmt.Errorf("group %s: %w", name, unit.ErrMissing)
		}
	}
	return all, nil
}

func filters(tags unit.Tags) []types.Filter {
	var fs []types.Filter
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		fs = append(fs, types.Filter{Name: aws.String("tag:" + key), Values: tags[key]})
	}
	return fs
}

func pages(ctx context.Context, client *autoscaling.Client, in autoscaling.DescribeAutoScalingGroupsInput) ([]types.AutoScalingGroup, error) {
	in.MaxRecords = aws.Int32(pageSize)
	var all []types.AutoScalingGroup
	for range maxPages {
		out, err := client.DescribeAutoScalingGroups(ctx, &in)
		if err != nil {
			return nil, err
		}
		if out.AutoScalingGroups == nil {
			return nil, fmt.Errorf("DescribeAutoScalingGroups: %w", unit.ErrAnswer)
		}
		all = append(all, out.AutoScalingGroups...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			return nil, fmt.Errorf("DescribeAutoScalingGroups: a page leads to itself: %w", unit.ErrAnswer)
		}
		in.NextToken = out.NextToken
	}
	return nil, fmt.Errorf("DescribeAutoScalingGroups: more than %d pages: %w", maxPages, unit.ErrAnswer)
}

func membersOf(rule Rule, g types.AutoScalingGroup) []member {
	tags := make(map[string]string, len(g.Tags))
	for _, t := range g.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	service := cmp.Or(rule.Service, aws.ToString(g.AutoScalingGroupName))
	if rule.ServiceTag != "" {
		service = tags[rule.ServiceTag]
	}
	var all []member
	for _, i := range g.Instances {
		if health, present := Health(i.LifecycleState, aws.ToString(i.HealthStatus)); present {
			all = append(all, member{service, rule.Ports, tags, health, aws.ToString(i.InstanceId), aws.ToString(i.AvailabilityZoneId)})
		}
	}
	return all
}

// place asks for the addresses of the members.
func (r *Reader) place(ctx context.Context, members []member) (*unit.Content, error) {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.id)
	}
	instances, err := r.opts.Inventory.Instances(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("addresses of instances: %w", err)
	}
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	for _, m := range members {
		inst, ok := instances[m.id]
		if !ok {
			if m.health.Usable() {
				return nil, fmt.Errorf("instance %s is in service, and EC2 does not know it: %w", m.id, unit.ErrInconsistent)
			}
			continue // on its way in or out
		}
		for _, p := range m.ports {
			b.Add(unit.Endpoint{
				Service: m.service, ID: fmt.Sprintf("%s:%d", m.id, p.Port), Port: p.Catalog(),
				Address: inst.Address(r.opts.Shape.Address), Number: int(p.Port),
				Zone: cmp.Or(m.zone, inst.Zone), Health: m.health, Tags: labelsOf(m.tags, inst.Tags),
			})
		}
	}
	return b.Content(), nil
}

// labelsOf is the instance's tags over the group's.
func labelsOf(group, instance map[string]string) map[string]string {
	all := maps.Clone(group)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, instance)
	return all
}

// Health is what a group says of an instance; false where it is none any more.
// What is on its way out, or stands by, is in maintenance: said in so many words,
// it takes effect at once, where a withdrawal would wait for the guard.
func Health(state types.LifecycleState, health string) (catalog.Health, bool) {
	switch state {
	case types.LifecycleStateInService:
		if strings.EqualFold(health, "Healthy") {
			return catalog.Passing, true
		}
		return catalog.Critical, true
	case types.LifecycleStatePending, types.LifecycleStatePendingWait, types.LifecycleStatePendingProceed:
		return catalog.Critical, true // not in service yet
	case types.LifecycleStateTerminated, types.LifecycleStateDetached, types.LifecycleStateWarmedTerminated:
		return "", false
	default: // terminating, detaching, standby, warm, quarantined, and what is new
		return catalog.Maintenance, true
	}
}
