package aws

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
	"github.com/isthmus-mesh/isthmus/providers/aws/ec2"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

const (
	// DefaultInterval is how often each unit is read in full, give or take Jitter.
	DefaultInterval = 20 * time.Second
	// DefaultRevisions is how often Cloud Map is asked for the revisions of its
	// services between full reads.
	DefaultRevisions = 5 * time.Second
	// Jitter is the share by which a wait is longer or shorter, so that sources
	// do not ask in step.
	Jitter = 0.2

	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	// maxAccounts bounds the accounts, maxUnits what becomes of them and their
	// regions: each unit is a goroutine and a dozen series.
	maxAccounts = 64
	maxUnits    = 1024
	minRate     = 0.1
	maxRate     = 1000
)

// Config is the file.
type Config struct {
	// Interval between full reads; default DefaultInterval.
	Interval time.Duration `yaml:"interval"`
	// Revisions is the interval between questions to Cloud Map whether instances
	// came or went; default DefaultRevisions.
	Revisions time.Duration `yaml:"revisions"`
	// Rate is the calls a second to one region of one account; default
	// account.DefaultRate. DiscoverInstances may be called ten times as often.
	Rate float64 `yaml:"rate"`
	// Namespace of the catalog that the services are put in; default "default".
	Namespace string `yaml:"namespace"`
	// Address chooses the address of endpoints: private (default), public, ipv6.
	Address unit.Address `yaml:"address"`
	// Labels are the keys of tags (in Cloud Map: attributes) that become labels of
	// endpoints; "*" is all. Default none.
	Labels []string `yaml:"labels"`
	// Accounts to read.
	Accounts []Account `yaml:"accounts"`
}

// Account is one account, how to get into it, and what to read in each of its
// regions.
type Account struct {
	account.Config `yaml:",inline"`
	// CloudMap are namespaces of Cloud Map.
	CloudMap cloudmap.Namespaces `yaml:"cloud_map"`
	// ECS are clusters of ECS.
	ECS ecs.Clusters `yaml:"ecs"`
	// TargetGroups are target groups of load balancers.
	TargetGroups elb.Rules `yaml:"target_groups"`
	// AutoScaling are Auto Scaling groups.
	AutoScaling autoscaling.Rules `yaml:"auto_scaling"`
	// EC2 are instances by tag.
	EC2 ec2.Rules `yaml:"ec2"`
}

// ParseConfig reads the file and reports every problem, each with its place.
func ParseConfig(file string, data []byte) (Config, error) {
	var c Config
	if err := strictyaml.DecodeValid(file, data, &c, func() error { return c.Validate() }); err != nil {
		return Config{}, err
	}
	return c, nil
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Revisions = cmp.Or(c.Revisions, min(DefaultRevisions, c.Interval))
	c.Rate = cmp.Or(c.Rate, account.DefaultRate)
	c.Namespace = cmp.Or(c.Namespace, catalog.DefaultNamespace)
	c.Address = cmp.Or(c.Address, unit.Private)
	c.Accounts = slices.Clone(c.Accounts)
	for i := range c.Accounts {
		c.Accounts[i].Config = c.Accounts[i].Config.WithDefaults()
	}
	return c
}

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if c.Interval < minInterval || c.Interval > maxInterval {
		fail("interval", c.Interval.String(), fmt.Sprintf("must be between %v and %v", minInterval, maxInterval))
	}
	if c.Revisions < minInterval || c.Revisions > c.Interval {
		fail("revisions", c.Revisions.String(), fmt.Sprintf("must be between %v and the interval", minInterval))
	}
	if c.Rate < minRate || c.Rate > maxRate {
		fail("rate", c.Rate, fmt.Sprintf("must be between %v and %v calls a second", minRate, maxRate))
	}
	if !unit.IsLabel(c.Namespace) {
		fail("namespace", c.Namespace, "must be a DNS label")
	}
	if !c.Address.Valid() {
		fail("address", string(c.Address), "must be private, public or ipv6")
	}
	if len(c.Labels) > catalog.MaxLabels {
		fail("labels", len(c.Labels), fmt.Sprintf("at most %d", catalog.MaxLabels))
	}
	for i, l := range c.Labels {
		if err := catalog.CheckLabel(l, ""); l != "*" && err != nil {
			fail(fmt.Sprintf("labels[%d]", i), l, "can be no label's key: "+err.Error())
		}
	}
	return errors.Join(append(errs, c.validateAccounts()...)...)
}

func (c Config) validateAccounts() []error {
	var errs []error
	switch n := len(c.Accounts); {
	case n == 0:
		return []error{strictyaml.Fail("accounts", nil, "must name at least one account")}
	case n > maxAccounts:
		return []error{strictyaml.Fail("accounts", n, fmt.Sprintf("at most %d", maxAccounts))}
	}
	units := 0
	for i, a := range c.Accounts {
		at := fmt.Sprintf("accounts[%d]", i)
		if slices.ContainsFunc(c.Accounts[:i], func(o Account) bool { return o.Name == a.Name }) {
			errs = append(errs, strictyaml.Fail(at+".name", a.Name, "is the name of two accounts"))
		}
		errs = append(errs, strictyaml.Within(at, errors.Join(a.Config.Validate()...)))
		kinds := a.kinds()
		if len(kinds) == 0 {
			errs = append(errs, strictyaml.Fail(at, nil, "must say what to read: cloud_map, ecs, target_groups, auto_scaling or ec2"))
		}
		units += len(kinds) * len(a.Regions)
		for _, k := range kinds {
			errs = append(errs, strictyaml.Within(at+"."+k.field, errors.Join(k.problems...)))
		}
	}
	if units > maxUnits {
		errs = append(errs, strictyaml.Fail("accounts", units, fmt.Sprintf("are more than %d of accounts x regions x kinds", maxUnits)))
	}
	return errs
}

// kindOf is one kind that an account is read for.
type kindOf struct {
	name, field string
	problems    []error
}

// kinds are those that the account is read for, in the order in which they come
// first where two differ.
func (a Account) kinds() []kindOf {
	all := []struct {
		kindOf
		set bool
	}{
		{kindOf{cloudmap.Kind, "cloud_map", a.CloudMap.Validate()}, len(a.CloudMap) > 0},
		{kindOf{ecs.Kind, "ecs", a.ECS.Validate()}, len(a.ECS) > 0},
		{kindOf{elb.Kind, "target_groups", a.TargetGroups.Validate()}, len(a.TargetGroups) > 0},
		{kindOf{autoscaling.Kind, "auto_scaling", a.AutoScaling.Validate()}, len(a.AutoScaling) > 0},
		{kindOf{ec2.Kind, "ec2", a.EC2.Validate()}, len(a.EC2) > 0},
	}
	var set []kindOf
	for _, k := range all {
		if k.set {
			set = append(set, k.kindOf)
		}
	}
	return set
}
