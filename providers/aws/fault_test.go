package aws_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws"
	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
	"github.com/isthmus-mesh/isthmus/providers/aws/ec2"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

var some = discoverytest.Content{"web": {"10.0.0.1:80", "10.0.0.2:80"}, "billing": {"10.0.0.3:81"}}

// reader is one of a kind, with credentials and a budget of retries of its own.
func (w *world) reader(kind string, a aws.Account, timeout time.Duration) unit.Reader {
	acc := account.New(account.Options{Config: a.Config, Rate: 1000, CallTimeout: timeout, Backoff: time.Millisecond})
	w.t.Cleanup(acc.Close)
	open := func(ctx context.Context) (awssdk.Config, error) { return acc.Config(ctx, w.region) }
	inventory := ec2.NewInventory(open)
	name, shape := unit.Name{Account: "test", Region: w.region, Kind: kind}, unit.Shape{Namespace: "default", Address: unit.Private, Labels: []string{"*"}}
	switch kind {
	case cloudmap.Kind:
		return cloudmap.New(cloudmap.Options{Name: name, Shape: shape, Namespaces: a.CloudMap, Open: open, Inventory: inventory})
	case ecs.Kind:
		return ecs.New(ecs.Options{Name: name, Shape: shape, Clusters: a.ECS, Open: open, Inventory: inventory})
	case elb.Kind:
		return elb.New(elb.Options{Name: name, Shape: shape, Rules: a.TargetGroups, Open: open, Inventory: inventory})
	case autoscaling.Kind:
		return autoscaling.New(autoscaling.Options{Name: name, Shape: shape, Rules: a.AutoScaling, Open: open, Inventory: inventory})
	default:
		return ec2.New(ec2.Options{Name: name, Shape: shape, Rules: a.EC2, Inventory: inventory})
	}
}

// faults are what may come in place of an answer, and what a failure of that kind
// is called.
var faults = map[string]struct {
	fault   awstest.Fault
	reasons []string
}{
	"throttled":        {awstest.Throttled(), []string{account.Throttled}},
	"expired":          {awstest.Expired(), []string{account.Credentials}},
	"denied":           {awstest.Denied(), []string{account.Denied}},
	"server error":     {awstest.Broken(), []string{account.Server}},
	"clock":            {awstest.SkewedWithoutDate(), []string{account.Clock}},
	"connection cut":   {awstest.CutConnection(), []string{account.Network}},
	"half a body":      {awstest.CutBody(), []string{account.Answer, account.Network}},
	"no body":          {awstest.Nothing(), []string{account.Answer}},
	"no members":       {awstest.Hollow(), []string{account.Answer}},
	"portal":           {awstest.Page(), []string{account.Answer}},
	"refused":          {awstest.Refused(), []string{account.Network}},
	"no answer at all": {awstest.Slow(), []string{account.Timeout}},
}

const quickTimeout = 5 * time.Second

// Whatever comes in place of whichever answer of a read: the read fails as a whole,
// its failure has a name, and the next is as good as ever.
func TestNoBrokenAnswerIsTaken(t *testing.T) {
	moto(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := kinds[kind](w)
			f.set(some)
			good := read(t, w.reader(kind, f.account, quickTimeout))
			actions := w.proxy.Calls()
			if kind == cloudmap.Kind {
				actions["DiscoverInstancesRevision"] = 1
			}
			for action := range actions {
				for name, c := range faults {
					timeout := quickTimeout
					if name == "no answer at all" {
						timeout = 50 * time.Millisecond // of each attempt; nothing else is asked
					}
					if name == "no answer at all" && len(actions) > 1 && action != first(kind) {
						continue // it would not get past the first answer in that time
					}
					r := w.reader(kind, f.account, timeout)
					full := action != "DiscoverInstancesRevision"
					if !full {
						read(t, r)
					}
					w.proxy.Fail(awstest.On(awstest.Action(action), c.fault))
					content, err := r.Read(t.Context(), full)
					if w.proxy.Faulted() == 0 {
						t.Errorf("%s, %s: not asked", action, name)
					}
					w.proxy.Fail(nil)
					if err == nil || content != nil {
						t.Errorf("%s, %s: was taken: %v", action, name, content)
						continue
					}
					if reason := account.Reason(err); !slices.Contains(c.reasons, reason) {
						t.Errorf("%s, %s: reason %q, want %q: %v", action, name, reason, c.reasons, err)
					}
				}
			}
			if again := read(t, w.reader(kind, f.account, quickTimeout)); !same(good, again) {
				t.Errorf("read %v, before %v", again.Services, good.Services)
			}
		})
	}
}

// first is the first question of a read.
func first(kind string) string {
	return map[string]string{
		cloudmap.Kind: "ListNamespaces", ecs.Kind: "ListTasks", elb.Kind: "DescribeTargetGroups",
		autoscaling.Kind: "DescribeAutoScalingGroups", ec2.Kind: "DescribeInstances",
	}[kind]
}

func read(t *testing.T, r unit.Reader) *unit.Content {
	t.Helper()
	c, err := r.Read(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func same(a, b *unit.Content) bool {
	if len(a.Services) != len(b.Services) {
		return false
	}
	for name, svc := range a.Services {
		if b.Services[name] == nil || !svc.Equal(b.Services[name]) {
			return false
		}
	}
	return true
}

// Every list comes in pages: all of them together are the content, and one that
// fails takes the whole read with it.
func TestHalfAListIsNoList(t *testing.T) {
	moto(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := kinds[kind](w)
			f.set(some)
			whole := read(t, w.reader(kind, f.account, quickTimeout))
			calls := total(w.proxy.Calls())
			w.proxy.Pages(1)
			if paged := read(t, w.reader(kind, f.account, quickTimeout)); !same(whole, paged) {
				t.Errorf("in pages: %v, in one: %v", paged.Services, whole.Services)
			}
			if kind != elb.Kind && total(w.proxy.Calls()) < 2*calls+1 { // moto gives target groups that are asked for by name in one page
				t.Errorf("there were no pages: %v", w.proxy.Calls())
			}
			for name, fault := range map[string]awstest.Fault{"throttled": awstest.Throttled(), "cut": awstest.CutConnection(), "error": awstest.Broken()} {
				w.proxy.Fail(awstest.On(awstest.LaterPages, fault))
				content, err := w.reader(kind, f.account, quickTimeout).Read(t.Context(), true)
				if faulted := w.proxy.Faulted() > 0; faulted && (err == nil || content != nil) {
					t.Errorf("%s in the middle: was taken: %v", name, content)
				} else if !faulted && kind != elb.Kind {
					t.Errorf("%s: no later page was asked for", name)
				}
				w.proxy.Fail(nil)
			}
		})
	}
}

func total(calls map[string]int) int {
	n := 0
	for _, c := range calls {
		n += c
	}
	return n
}

// A clock that is wrong is set right by the dates of the answers.
func TestAWrongClockIsCorrected(t *testing.T) {
	moto(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := kinds[kind](w)
			f.set(some)
			w.proxy.Fail(awstest.Skewed(time.Hour))
			if c := read(t, w.reader(kind, f.account, quickTimeout)); c.Endpoints() != 3 {
				t.Errorf("%d endpoints", c.Endpoints())
			}
			if w.proxy.Faulted() == 0 {
				t.Error("no call was refused")
			}
		})
	}
}

// Two answers that do not go together are no content: one of them is old.
func TestAnswersThatContradictEachOther(t *testing.T) {
	moto(t)
	for kind, action := range map[string]string{autoscaling.Kind: "DescribeInstances", ecs.Kind: "DescribeTasks"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := kinds[kind](w)
			f.set(some)
			r := w.reader(kind, f.account, quickTimeout)
			if kind == autoscaling.Kind {
				w.proxy.Fail(awstest.On(awstest.Action(action), awstest.Emptied()))
			} else {
				w.proxy.Fail(awstest.On(awstest.Action(action), awstest.NoTasks()))
			}
			if _, err := r.Read(t.Context(), true); !errors.Is(err, unit.ErrInconsistent) {
				t.Errorf("got %v", err)
			}
			w.proxy.Fail(nil)
			read(t, r)
		})
	}
}

// A task that is not listed is not gone: it is asked for by its name until ECS says
// that it has ended.
func TestATaskThatIsNoLongerListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := tasks(w)
	f.set(some)
	r := w.reader(ecs.Kind, f.account, quickTimeout)
	before := read(t, r)
	w.proxy.Fail(awstest.On(awstest.Action("ListTasks"), awstest.Emptied()))
	if c := read(t, r); !same(c, before) {
		t.Errorf("got %v, want %v", c.Services, before.Services)
	}
	f.set(discoverytest.Content{"web": some["web"]})
	if c := read(t, r); c.Endpoints() != 2 {
		t.Errorf("%d endpoints after one has ended", c.Endpoints())
	}
	w.proxy.Fail(func(p *awstest.Proxy, rw http.ResponseWriter, req *http.Request, c awstest.Call) bool {
		fault := map[string]awstest.Fault{"ListTasks": awstest.Emptied(), "DescribeTasks": awstest.NoTasks()}[c.Action]
		return fault != nil && fault(p, rw, req, c)
	})
	if c := read(t, r); c.Endpoints() != 0 {
		t.Errorf("%d endpoints after ECS has forgotten the tasks", c.Endpoints())
	}
}

// What is empty is empty; what the configuration names and nobody finds is an error.
func TestEmptyIsNotMissing(t *testing.T) {
	moto(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := kinds[kind](w)
			if c := read(t, w.reader(kind, f.account, quickTimeout)); len(c.Services) != 0 {
				t.Errorf("content of nothing: %v", c.Services)
			}
			a := f.account
			switch kind {
			case cloudmap.Kind:
				a.CloudMap = cloudmap.Namespaces{{Namespace: "nowhere"}}
			case ecs.Kind:
				a.ECS = ecs.Clusters{{Cluster: "nowhere"}}
			case elb.Kind:
				a.TargetGroups = elb.Rules{{Name: "nowhere"}}
			case autoscaling.Kind:
				a.AutoScaling = autoscaling.Rules{{Groups: []string{"nowhere"}, Ports: []unit.Port{{Port: 1}}}}
			case ec2.Kind:
				return // tags choose whatever has them, which may be nothing
			}
			if c, err := w.reader(kind, a, quickTimeout).Read(t.Context(), true); err == nil || account.Reason(err) != account.Missing {
				t.Errorf("of what does not exist: %v, %v", c, err)
			}
		})
	}
}
