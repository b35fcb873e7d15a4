package simulation_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/simulation"
)

// A seed decides everything, and another one something else.
func TestASeedDecidesARun(t *testing.T) {
	one, again, other := simulation.Run(simulation.Config{Seed: 7}), simulation.Run(simulation.Config{Seed: 7}), simulation.Run(simulation.Config{Seed: 8})
	if one.Hash != again.Hash || one.Steps != again.Steps || one.Stats != again.Stats {
		t.Errorf("two runs of one seed: %+v and %+v", one, again)
	}
	if one.Hash == other.Hash {
		t.Error("two seeds, one run")
	}
}
