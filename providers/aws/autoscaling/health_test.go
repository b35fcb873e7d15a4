package autoscaling_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
)

// Only what is in service and healthy is used, and what has gone is no endpoint;
// whatever state AWS adds is not used before somebody has looked at it.
func TestHealth(t *testing.T) {
	want := map[types.LifecycleState]catalog.Health{
		types.LifecycleStatePending: catalog.Critical, types.LifecycleStatePendingWait: catalog.Critical, types.LifecycleStatePendingProceed: catalog.Critical,
		types.LifecycleStateTerminated: "", types.LifecycleStateDetached: "", types.LifecycleStateWarmedTerminated: "",
	}
	for _, state := range append(types.LifecycleState("").Values(), "Brand:New") {
		got, present := autoscaling.Health(state, "Healthy")
		expected, said := want[state]
		switch {
		case state == types.LifecycleStateInService:
			expected = catalog.Passing
		case !said:
			expected = catalog.Maintenance
		}
		if got != expected || present != (expected != "") {
			t.Errorf("%s is %q (%v), want %q", state, got, present, expected)
		}
	}
	for health, want := range map[string]catalog.Health{"Healthy": catalog.Passing, "HEALTHY": catalog.Passing, "Unhealthy": catalog.Critical, "": catalog.Critical} {
		if got, _ := autoscaling.Health(types.LifecycleStateInService, health); got != want {
			t.Errorf("in service and %q is %s, want %s", health, got, want)
		}
	}
}
