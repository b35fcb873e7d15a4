package simulation_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/simulation"
)

var (
	seed  = flag.Uint64("seed", 0, "run this seed alone")
	seeds = flag.Int("seeds", perRun, "run so many seeds, from -first on")
	first = flag.Uint64("first", 1, "the first seed")
	trace = flag.Bool("trace", false, "with -seed: write what happens")
)

// repeated is how many seeds are run a second time, to see that a seed decides all.
const repeated = 16

// TestMain gives memory for speed: runs make much that lives for a moment.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}

// each runs something for every seed, on all processors.
func each(n int, run func(seed uint64)) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				k := next.Add(1)
				if k > uint64(n) {
					return
				}
				run(*first + k - 1)
			}
		})
	}
	wg.Wait()
}

// again is how to see a seed's run.
func again(seed uint64) string {
	return fmt.Sprintf("go test ./e2e/simulation -run TestSeeds -seed %d -trace", seed)
}

func TestSeeds(t *testing.T) {
	if *seed != 0 {
		var out io.Writer
		if *trace {
			out = os.Stdout
		}
		r := simulation.Run(simulation.Config{Seed: *seed, Trace: out})
		t.Logf("seed %d: hash %016x, %d steps, %v, %+v", *seed, r.Hash, r.Steps, r.Lasted, r.Stats)
		if r.Violation != nil {
			t.Error(r.Violation)
		}
		return
	}
	var mu sync.Mutex
	var sum simulation.Result
	each(*seeds, func(seed uint64) {
		r := simulation.Run(simulation.Config{Seed: seed})
		same := seed-*first >= repeated || simulation.Run(simulation.Config{Seed: seed}).Hash == r.Hash
		mu.Lock()
		defer mu.Unlock()
		sum.Lasted += r.Lasted
		sum.Steps += r.Steps
		sum.Stats.Add(r.Stats)
		if !same {
			t.Errorf("seed %d: two runs differ", seed)
		}
		if r.Violation != nil {
			t.Errorf("seed %d: %s\n\t%s", seed, r.Violation, again(seed))
		}
	})
	s := sum.Stats
	t.Logf("figure: %d seeds, %.1f simulated hours, %d steps; %d faults; %d calls, %d attempts, %d executions; %d tables, %d catalogs applied, %d links lost; %d calls drilled, %d spared",
		*seeds, sum.Lasted.Hours(), sum.Steps, s.Faults, s.Calls, s.Attempts, s.Executions, s.Tables, s.Batches, s.LinksLost, s.Drilled, s.Spared)
	// A simulation in which nothing happens proves nothing.
	if s.Answered*10 < s.Calls*7 || s.Denied == 0 || s.LinksLost == 0 || s.Refused == 0 || s.Held == 0 || s.Ejections == 0 || s.Drilled == 0 {
		t.Errorf("too little happens: %+v", s)
	}
}

// Every planted bug is caught, by an invariant that it breaks.
func TestPlantedBugsAreCaught(t *testing.T) {
	bugs := simulation.Bugs()
	if len(bugs) < 20 {
		t.Fatalf("%d bugs", len(bugs))
	}
	lines := make([]string, len(bugs))
	each(len(bugs), func(k uint64) {
		k -= *first
		b := bugs[k]
		for seed := uint64(1); seed <= patience; seed++ {
			v := simulation.Run(simulation.Config{Seed: seed, Bug: b}).Violation
			if v == nil {
				continue
			}
			if !slices.Contains(b.By, v.Invariant) {
				t.Errorf("%s: seed %d: caught by %s, expected by %v", b.Name, seed, v, b.By)
			}
			lines[k] = fmt.Sprintf("%-55s %-22s seed %d", b.Name, v.Invariant, seed)
			return
		}
		t.Errorf("%s: not caught in %d seeds", b.Name, patience)
	})
	t.Logf("figure: %d of %d planted bugs caught\n%s", len(lines)-strings.Count(strings.Join(lines, "|"), "||"), len(bugs), strings.Join(lines, "\n"))
}
