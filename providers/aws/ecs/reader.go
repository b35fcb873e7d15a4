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
	// live are the tasks of each cluster that were endpoints at the last read. The
	// list has only tasks that are to run: what has left it is described once more,
	// so that a task that is to stop is in maintenance until it has ended.
	live map[string][]string
}

// New makes no call.
func New(o Options) *Reader {
	return &Reader{opts: o, definitions: map[string][]unit.Port{}, live: map[string][]string{}}
}

var _ unit.Reader = (*Reader)(nil)

// Read implements unit.Reader.
func (r *Reader) Read(ctx context.Context, _ bool) (*unit.Content, error) {
	cfg, err := r.opts.Open(ctx)
	if err != nil {
		return nil, err
	}
	client := ecs.NewFromConfig(cfg)
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	live := map[string][]string{}
	for _, c := range r.opts.Clusters {
		if live[c.Cluster], err = r.readCluster(ctx, client, b, c); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Cluster, err)
		}
	}
	r.live = live
	return b.Content(), nil
}

// readCluster returns the tasks that are endpoints.
func (r *Reader) readCluster(ctx context.Context, client *ecs.Client, b *unit.Builder, c Cluster) ([]string, error) {
	arns, err := list(ctx, client, c.Cluster)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(slices.Clone(r.live[c.Cluster]), func(arn string) bool {
		_, still := slices.BinarySearch(arns, arn)
		return still
	})
	var live []string
	for _, part := range []struct {
		arns   []string
		listed bool
	}{{arns, true}, {left, false}} {
		for some := range slices.Chunk(part.arns, pageSize) {
			tasks, err := describe(ctx, client, c.Cluster, some, part.listed)
			if err != nil {
				return nil, err
			}
			for _, t := range tasks {
				isEndpoint, err := r.add(ctx, client, b, c, t)
				if err != nil {
					return nil, err
				}
				if isEndpoint {
					live = append(live, aws.ToString(t.TaskArn))
				}
			}
		}
	}
	return live, nil
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

// missing is why a task is not described that has ended some time ago.
const missing = "MISSING"

// describe describes all of the tasks. One that is listed must be known; one that
// has left the list may be forgotten.
func describe(ctx context.Context, client *ecs.Client, cluster string, arns []string, listed bool) ([]types.Task, error) {
	out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{
		Cluster: &cluster, Tasks: arns, Include: []types.TaskField{types.TaskFieldTags},
	})
	if err != nil {
		return nil, err
	}
	if out.Tasks == nil {
		return nil, fmt.Errorf("DescribeTasks: %w", unit.ErrAnswer)
	}
	for _, f := range out.Failures {
		if listed || aws.ToString(f.Reason) != missing {
			return nil, fmt.Errorf("task %s is not described (%s): %w", aws.ToString(f.Arn), aws.ToString(f.Reason), unit.ErrInconsistent)
		}
	}
	if !listed {
		return out.Tasks, nil
	}
	described := make(map[string]bool, len(out.Tasks))
	for _, t := range out.Tasks {
		described[aws.ToString(t.TaskArn)] = true
	}
	for _, arn := range arns {
		if !described[arn] {
			return nil, fmt.Errorf("task %s is listed and not described: %w", arn, unit.ErrInconsistent)
		}
	}
	return out.Tasks, nil
}

// groupOfService is what the group of a task begins with that a service started;
// others run once, and are no endpoints.
const groupOfService = "service:"

// add takes a task, if it is an endpoint of a service that is read.
func (r *Reader) add(ctx context.Context, client *ecs.Client, b *unit.Builder, c Cluster, t types.Task) (isEndpoint bool, err error) {
	name, ofService := strings.CutPrefix(aws.ToString(t.Group), groupOfService)
	if !ofService {
		return false, nil
	}
	service, wanted := c.service(name)
	if !wanted {
		return false, nil
	}
	health, present := Health(t)
	if !present {
		return false, nil
	}
	address := addressOf(t, r.opts.Shape.Address)
	if !address.IsValid() && !health.Usable() {
		return false, nil // its address is to come, or gone
	}
	ports := service.Ports
	if len(ports) == 0 {
		if ports, err = r.portsOf(ctx, client, aws.ToString(t.TaskDefinitionArn)); err != nil {
			return false, err
		}
	}
	zone, err := r.zone(ctx, b, aws.ToString(t.AvailabilityZone))
	if err != nil {
		return false, err
	}
	for _, p := range ports {
		b.Add(unit.Endpoint{
			Service: service.Service, ID: fmt.Sprintf("%s:%d", taskID(aws.ToString(t.TaskArn)), p.Port),
			Port: p.Catalog(), Address: address, Number: int(p.Port),
			Zone: zone, Health: health, Tags: tagsOf(t),
		})
	}
	return true, nil
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
