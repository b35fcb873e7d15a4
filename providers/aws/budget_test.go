package aws_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
)

// Retries come from one budget of all clients of a region: one that fails is soon
// asked once a call, whichever API is asked.
func TestTheClientsOfARegionShareABudgetOfRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.proxy.Fail(awstest.Throttled())
	acc := account.New(account.Options{Config: w.account, Rate: 10_000, Backoff: time.Microsecond})
	t.Cleanup(acc.Close)
	cfg, err := acc.Config(t.Context(), region)
	if err != nil {
		t.Fatal(err)
	}
	groups, tasks := autoscaling.NewFromConfig(cfg), ecs.NewFromConfig(cfg)
	const calls = 50
	for range calls {
		if _, err := groups.DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{}); account.Reason(err) != account.Throttled {
			t.Errorf("got %v", err)
		}
		if _, err := tasks.ListTasks(t.Context(), &ecs.ListTasksInput{}); account.Reason(err) != account.Throttled {
			t.Errorf("got %v", err)
		}
	}
	attempts := total(w.proxy.Calls())
	if attempts < 2*calls+3 || attempts > 2*calls+25 { // 20 retries of 5 tokens each, out of 100
		t.Errorf("%d attempts of %d calls", attempts, 2*calls)
	}
	t.Logf("figure: %d calls to a region that throttles everything made %d attempts", 2*calls, attempts)
}

// answering answers every call of ECS at once, without a network.
type answering struct{ calls int }

func (a *answering) RoundTrip(*http.Request) (*http.Response, error) {
	a.calls++
	return nil, context.DeadlineExceeded
}

// The rate of a region holds for all of its clients together, whatever they ask; the
// clock is simulated.
func TestTheRateOfARegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acc := account.New(account.Options{
			Config: account.Config{Name: "test", Regions: []string{region}, ConfigFiles: []string{"/dev/null"}, CredentialsFiles: []string{keysFile(t, "testing")}, Endpoint: "http://aws.invalid"},
			Rate:   10, Backoff: time.Nanosecond,
		})
		t.Cleanup(acc.Close)
		cfg, err := acc.Config(t.Context(), region)
		if err != nil {
			t.Fatal(err)
		}
		counter := &answering{}
		cfg.HTTPClient = &http.Client{Transport: counter}
		ctx, begin := t.Context(), time.Now()
		groups, tasks := autoscaling.NewFromConfig(cfg), ecs.NewFromConfig(cfg)
		for time.Since(begin) < time.Minute {
			_, _ = groups.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{})
			_, _ = tasks.ListTasks(ctx, &ecs.ListTasksInput{})
		}
		if counter.calls < 550 || counter.calls > 10*60+20+2 { // the rate, and one burst of two seconds
			t.Errorf("%d calls within a minute at 10 a second", counter.calls)
		}
	})
}
