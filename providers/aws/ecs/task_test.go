package ecs_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
)

func TestHealth(t *testing.T) {
	containers := func(health ...types.HealthStatus) (cs []types.Container) {
		for _, h := range health {
			cs = append(cs, types.Container{HealthStatus: h})
		}
		return cs
	}
	for _, c := range []struct {
		last, desired string
		health        types.HealthStatus
		containers    []types.Container
		want          catalog.Health
	}{
		{last: "RUNNING", desired: "RUNNING", health: types.HealthStatusHealthy, want: catalog.Passing},
		{last: "RUNNING", desired: "RUNNING", health: types.HealthStatusUnhealthy, want: catalog.Critical},
		{last: "RUNNING", desired: "RUNNING", health: types.HealthStatusUnknown, want: catalog.Unknown},
		// A sidecar that is not essential says nothing where ECS sums up.
		{last: "RUNNING", desired: "RUNNING", health: types.HealthStatusHealthy, containers: containers(types.HealthStatusUnhealthy), want: catalog.Passing},
		{last: "RUNNING", desired: "RUNNING", want: catalog.Unknown},
		{last: "RUNNING", desired: "RUNNING", containers: containers(types.HealthStatusHealthy, types.HealthStatusUnknown), want: catalog.Passing},
		{last: "RUNNING", desired: "RUNNING", containers: containers(types.HealthStatusHealthy, types.HealthStatusUnhealthy), want: catalog.Critical},
		{last: "RUNNING", desired: "STOPPED", health: types.HealthStatusHealthy, want: catalog.Maintenance},
		{last: "PROVISIONING", desired: "RUNNING", want: catalog.Critical},
		{last: "PENDING", desired: "RUNNING", want: catalog.Critical},
		{last: "ACTIVATING", desired: "RUNNING", want: catalog.Critical},
		{last: "DEACTIVATING", desired: "STOPPED", want: catalog.Maintenance},
		{last: "STOPPING", desired: "STOPPED", want: catalog.Maintenance},
		{last: "DEPROVISIONING", desired: "RUNNING", want: catalog.Maintenance},
		{last: "BRAND-NEW", desired: "RUNNING", want: catalog.Maintenance},
		{last: "STOPPED", desired: "STOPPED", want: ""},
	} {
		task := types.Task{LastStatus: aws.String(c.last), DesiredStatus: aws.String(c.desired), HealthStatus: c.health, Containers: c.containers}
		if got, present := ecs.Health(task); got != c.want || present != (c.want != "") {
			t.Errorf("%s, to be %s, %q with %d containers: is %q (%v), want %q", c.last, c.desired, c.health, len(c.containers), got, present, c.want)
		}
	}
}
