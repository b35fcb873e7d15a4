package ecs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Kind is the unit's kind.
const Kind = "ecs"

const (
	// pageSize is AWS's bound of ListTasks and of DescribeTasks.
	pageSize = 100
	// maxPages bounds one list.
	maxPages = 1000
	// maxDefinitions bounds the task definitions that are remembered; they are
	// forgotten together beyond it, and asked for again.
	maxDefinitions = 2000
)

// Options of New.
type Options struct {
	Name      unit.Name
	Shape     unit.Shape
	Clusters  Clusters
	Open      func(context.Context) (aws.Config, error)
	Inventory unit.Inventory
}

// Reader reads the tasks of clusters. It is for one goroutine at a time.
type Reader struct {
	opts Options
	// definitions are the ports of task definitions: a revision never changes.
	definitions map[string][]unit.Port
}

// New makes no call.
func New(o Options) *Reader { return &Reader{opts: o, definitions: map[string][]unit.Port{}} }

var _ unit.Reader = (*Reader)(nil)

// Read implements unit.Reader.
func (r *Reader) Read(ctx context.Context, _ bool) (*unit.Content, error) {
	cfg, err := r.opts.Open(ctx)
	if err != nil {
		return nil, err
	}
	client := ecs.NewFromConfig(cfg)
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	for _, c := range r.opts.Clusters {
		arns, err := list(ctx, client, c.Cluster)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Cluster, err)
		}
		for some := range slices.Chunk(arns, pageSize) {
			if err := r.describe(ctx, client, b, c, some); err != nil {
				return nil, fmt.Errorf("cluster %s: %w", c.Cluster, err)
			}
		}
	}
	return b.Content(), nil
}

// list reads the ARNs of all tasks that are to run.
func list(ctx context.Context, client *ecs.Client, cluster string) ([]string, error) {
	in := &ecs.ListTasksInput{Cluster: &cluster, MaxResults: aws.Int32(pageSize)}
	var all []string
	for range maxPages {
		out, err := client.ListTasks(ctx, in)
		if err != nil {
			return nil, err
		}
		if out.TaskArns == nil {
			return nil, fmt.Errorf("ListTasks: %w", unit.ErrAnswer)
		}
		all = append(all, out.TaskArns...)
		if aws.ToString(out.NextToken) == "" {
			slices.Sort(all)
			return slices.Compact(all), nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			return nil, fmt.Errorf("ListTasks: a page leads to itself: %w", unit.ErrAnswer)
		}
		in.NextToken = out.NextToken
	}
	return nil, fmt.Errorf("ListTasks: more than %d pages: %w", maxPages, unit.ErrAnswer)
}

func (r *Reader) describe(ctx context.Context, client *ecs.Client, b *unit.Builder, c Cluster, arns []string) error {
	out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{
		Cluster: &c.Cluster, Tasks: arns, Include: []types.TaskField{types.TaskFieldTags},
	})
	if err != nil {
		return err
	}
	if out.Tasks == nil {
		return fmt.Errorf("DescribeTasks: %w", unit.ErrAnswer)
	}
	if len(out.Failures) > 0 {
		f := out.Failures[0]
		return fmt.Errorf("task %s is listed and cannot be described (%s): %w", aws.ToString(f.Arn), aws.ToString(f.Reason), unit.ErrInconsistent)
	}
	described := make(map[string]bool, len(out.Tasks))
	for _, t := range out.Tasks {
		described[aws.ToString(t.TaskArn)] = true
		if err := r.add(ctx, client, b, c, t); err != nil {
			return err
		}
	}
	for _, arn := range arns {
		if !described[arn] {
			return fmt.Errorf("task %s is listed and not described: %w", arn, unit.ErrInconsistent)
		}
	}
	return nil
}

// groupOfService is what the group of a task begins with that a service started;
// others run once, and are no endpoints.
const groupOfService = "service:"

func (r *Reader) add(ctx context.Context, client *ecs.Client, b *unit.Builder, c Cluster, t types.Task) error {
	name, ofService := strings.CutPrefix(aws.ToString(t.Group), groupOfService)
	if !ofService {
		return nil
	}
	service, wanted := c.service(name)
	if !wanted {
		return nil
	}
	health, present := Health(t)
	if !present {
		return nil
	}
	address := addressOf(t, r.opts.Shape.Address)
	if !address.IsValid() && !health.Usable() {
		return nil // its address is to come, or gone
	}
	ports := service.Ports
	if len(ports) == 0 {
		var err error
		if ports, err = r.portsOf(ctx, client, aws.ToString(t.TaskDefinitionArn)); err != nil {
			return err
		}
	}
	zone, err := r.zone(ctx, b, aws.ToString(t.AvailabilityZone))
	if err != nil {
		return err
	}
	for _, p := range ports {
		b.Add(unit.Endpoint{
			Service: service.Service, ID: fmt.Sprintf("%s:%d", taskID(aws.ToString(t.TaskArn)), p.Port),
			Port: p.Catalog(), Address: address, Number: int(p.Port),
			Zone: zone, Health: health, Tags: tagsOf(t),
		})
	}
	return nil
}

func (r *Reader) zone(ctx context.Context, b *unit.Builder, name string) (string, error) {
	if name == "" {
		return "", nil // the emulated, and tasks outside of AWS (ECS Anywhere)
	}
	id, err := r.opts.Inventory.Zone(ctx, name)
	if err == nil && id == "" {
		b.Reject(unit.BadZone)
	}
	return id, err
}

// portsOf asks for the port mappings of a task definition, once.
func (r *Reader) portsOf(ctx context.Context, client *ecs.Client, arn string) ([]unit.Port, error) {
	if ports, known := r.definitions[arn]; known {
		return ports, nil
	}
	out, err := client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		return nil, err
	}
	if out.TaskDefinition == nil {
		return nil, fmt.Errorf("DescribeTaskDefinition: %w", unit.ErrAnswer)
	}
	if len(r.definitions) >= maxDefinitions {
		clear(r.definitions)
	}
	ports := mappings(out.TaskDefinition)
	r.definitions[arn] = ports
	return ports, nil
}

// taskID is the last part of a task's ARN, unique in a region.
func taskID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func tagsOf(t types.Task) map[string]string {
	tags := make(map[string]string, len(t.Tags))
	for _, tag := range t.Tags {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return tags
}
