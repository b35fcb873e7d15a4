package aws_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws"
)

// prefixes are how policies call the SDK's services.
var prefixes = map[string]string{
	"EC2": "ec2", "ECS": "ecs", "Auto Scaling": "autoscaling", "Elastic Load Balancing v2": "elasticloadbalancing",
	"ServiceDiscovery": "servicediscovery", "STS": "sts",
}

// The policy allows what is called, and nothing else: the calls are those that a
// source of every kind makes, as the SDK names them.
func TestPolicyIsWhatIsCalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	called := map[string]bool{}
	record := func(s *middleware.Stack) error {
		return s.Finalize.Add(middleware.FinalizeMiddlewareFunc("record", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			prefix := prefixes[awsmiddleware.GetServiceID(ctx)]
			if prefix == "" {
				t.Errorf("no prefix is known for the service %q", awsmiddleware.GetServiceID(ctx))
			}
			mu.Lock()
			called[prefix+":"+awsmiddleware.GetOperationName(ctx)] = true
			mu.Unlock()
			return next.HandleFinalize(ctx, in)
		}), middleware.Before)
	}
	all := aws.Account{Config: w.account}
	for _, kind := range kinds {
		f := kind(w)
		f.set(some)
		a := f.account
		all.CloudMap = append(all.CloudMap, a.CloudMap...)
		all.ECS = append(all.ECS, a.ECS...)
		all.TargetGroups = append(all.TargetGroups, a.TargetGroups...)
		all.AutoScaling = append(all.AutoScaling, a.AutoScaling...)
		all.EC2 = append(all.EC2, a.EC2...)
	}
	s, err := aws.New(aws.Options{Name: "aws", Config: w.config(all), APIOptions: []func(*middleware.Stack) error{record}})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, s)
	r.await("every kind", func(s *catalog.Snapshot) bool { return s.EndpointCount() >= 5*3 })
	r.until("a question for a revision", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return called["servicediscovery:DiscoverInstancesRevision"]
	})
	r.stop()

	data, err := os.ReadFile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Statement []struct {
			Effect   string
			Action   []string
			Resource string
		}
	}
	if err := json.Unmarshal(data, &policy); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, st := range policy.Statement {
		if st.Effect != "Allow" {
			t.Errorf("a statement has the effect %s", st.Effect)
		}
		allowed = append(allowed, st.Action...)
	}
	slices.Sort(allowed)
	mu.Lock()
	defer mu.Unlock()
	if got := slices.Sorted(maps.Keys(called)); !slices.Equal(got, allowed) {
		t.Errorf("called  %v\nallowed %v", got, allowed)
	}
}
