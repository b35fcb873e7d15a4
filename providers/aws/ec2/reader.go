package ec2

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Kind is the unit's kind.
const Kind = "ec2"

// Options of New.
type Options struct {
	Name      unit.Name
	Shape     unit.Shape
	Rules     Rules
	Inventory *Inventory
}

// Reader reads the instances of rules.
type Reader struct{ opts Options }

// New makes no call.
func New(o Options) *Reader { return &Reader{o} }

var _ unit.Reader = (*Reader)(nil)

// Read implements unit.Reader.
func (r *Reader) Read(ctx context.Context, _ bool) (*unit.Content, error) {
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	for i, rule := range r.opts.Rules {
		err := r.opts.Inventory.describe(ctx, filters(rule), func(inst unit.Instance) { r.add(b, rule, inst) })
		if err != nil {
			return nil, fmt.Errorf("ec2[%d]: %w", i, err)
		}
	}
	return b.Content(), nil
}

// filters are in order, so that equal rules ask equal questions.
func filters(rule Rule) []types.Filter {
	var fs []types.Filter
	for _, key := range slices.Sorted(maps.Keys(rule.Tags)) {
		fs = append(fs, types.Filter{Name: aws.String("tag:" + key), Values: rule.Tags[key]})
	}
	if rule.ServiceTag != "" {
		fs = append(fs, types.Filter{Name: aws.String("tag-key"), Values: []string{rule.ServiceTag}})
	}
	return fs
}

func (r *Reader) add(b *unit.Builder, rule Rule, inst unit.Instance) {
	health, present := Health(inst.State)
	if !present || !rule.Tags.Match(inst.Tags) { // a filter's wildcards match more than what was asked
		return
	}
	for _, p := range rule.Ports {
		b.Add(unit.Endpoint{
			Service: cmp.Or(rule.Service, inst.Tags[rule.ServiceTag]),
			ID:      fmt.Sprintf("%s:%d", inst.ID, p.Port), Port: p.Catalog(),
			Address: inst.Address(r.opts.Shape.Address), Number: int(p.Port),
			Zone: inst.Zone, Health: health, Tags: inst.Tags,
		})
	}
}

// Health is what a state says; false where there is no instance any more, or none
// yet. EC2 checks no service, so a running instance's health is not known.
func Health(state string) (catalog.Health, bool) {
	switch types.InstanceStateName(state) {
	case types.InstanceStateNameRunning:
		return catalog.Unknown, true
	case types.InstanceStateNameShuttingDown, types.InstanceStateNameStopping, types.InstanceStateNameStopped:
		// Said in so many words: it need not wait for the guard, as a
		// withdrawal would.
		return catalog.Maintenance, true
	case types.InstanceStateNamePending, types.InstanceStateNameTerminated:
		return "", false
	default:
		return "", false
	}
}
