package route_test

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// What follows replays recorded calls between recorded machines (testdata/traces): when
// calls came, how large their requests and answers were, how much work they made, and how
// fast machines and the paths to them were is recorded. Distances, the number of servers
// and the medians of what is recorded in parts of a median are chosen here.

const (
	bytesOfToken = 100
	// hastened is by how much faster calls come than they did: both services were small.
	hastened = 3.0
	// standing is for how many seconds one row of the machines stands, of which there were
	// hours between.
	standing = 10.0
)

// recording is the columns of a file.
type recording map[string][]float64

func readRecording(t *testing.T, name string) recording {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "traces", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	r := make(recording)
	for _, row := range rows[1:] {
		for i, text := range row {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r[rows[0][i]] = append(r[rows[0][i]], v)
		}
	}
	return r
}

// half is the first or the second half of a recording.
func (r recording) half(second bool) recording {
	out := make(recording)
	for k, v := range r {
		if out[k] = v[:len(v)/2]; second {
			out[k] = v[len(v)/2:]
		}
	}
	return out
}

// calls are those of a recording, with the work of each in parts of the mean.
func (r recording) calls() []demand {
	mean := 0.0
	for _, n := range r["generated_tokens"] {
		mean += n / float64(len(r["generated_tokens"]))
	}
	out := make([]demand, len(r["ms"]))
	for i := range out {
		out[i] = demand{
			at: (r["ms"][i] - r["ms"][0]) / 1000 / hastened, out: bytesOfToken * r["context_tokens"][i],
			in: bytesOfToken * r["generated_tokens"][i], weight: r["generated_tokens"][i] / mean,
		}
		if i > 0 { // of the same millisecond: one after the other
			out[i].at = max(out[i].at, out[i-1].at+1e-6)
		}
	}
	return out
}

// over is a column as it stands at a time, times a median.
func (r recording) over(column string, median float64) func(float64) float64 {
	v := r[column]
	return func(at float64) float64 { return median * v[int(at/standing)%len(v)] / 1000 }
}

func (r recording) under(column string, median float64) func(float64) float64 {
	speed := r.over(column, 1)
	return func(at float64) float64 { return median / speed(at) }
}

// recordedScenes are the same for each half of what is recorded.
func recordedScenes(t *testing.T, second bool) []scene {
	const ms, mb = 1e-3, 1e6
	machines := readRecording(t, "machines.csv").half(second)
	calls := map[string][]demand{}
	for _, name := range []string{"conv", "code"} {
		calls[name] = readRecording(t, "calls-"+name+".csv").half(second).calls()
	}
	var scenes []scene
	for _, of := range []struct{ ours, theirs string }{{"conv", "code"}, {"code", "conv"}} {
		ours := calls[of.ours]
		theirs := calls[of.theirs]
		place := func(name string, machine string, rtt, processing, out, in float64) site {
			return site{
				name: catalog.ClusterName(name), rtt: always(rtt), servers: 8,
				out: machines.over("write_"+machine, out), in: machines.over("read_"+machine, in),
				processing: machines.under("cache_"+machine, processing),
			}
		}
		sites := []site{
			place("b", "0", 20*ms, 60*ms, 6*mb, 6*mb),
			place("c", "1", 45*ms, 40*ms, 15*mb, 15*mb),
			place("d", "2", 70*ms, 50*ms, 40*mb, 40*mb),
		}
		sites[1].processing = machines.under("postgres_1", 40*ms)
		sites[0].recorded = theirs // they have all of theirs at the nearest
		for _, unsized := range []bool{false, true} {
			name := of.ours + " calls, with their size"
			if unsized {
				name = of.ours + " calls, size not told"
			}
			scenes = append(scenes, scene{name: name, sites: slices.Clone(sites), calls: ours, unsized: unsized})
		}
	}
	return scenes
}

// TestRegretOnRecordedTraces: the delay model on recorded traces, whose second half no
// constant was chosen on, against the same oracle as in TestRegret. What no chooser can
// avoid that does not know how much work a call will make, and where it does not say,
// its size, is told apart, as blind.
//
//	go test ./federation/route -run TestRegretOnRecordedTraces -v
func TestRegretOnRecordedTraces(t *testing.T) {
	for _, second := range []bool{false, true} {
		part := "first half"
		if second {
			part = "second half"
		}
		for _, sc := range recordedScenes(t, second) {
			t.Run(strings.ReplaceAll(part+" "+sc.name, " ", "_"), func(t *testing.T) {
				turn := 0
				names := []string{"model", "peak EWMA, two choices", "round robin", "nearest"}
				of := make([]verdict, len(names))
				for k, c := range []chooser{
					newModel(&sc),
					&tower{counters: make([]route.Counters, len(sc.sites)), random: rand.New(rand.NewPCG(1, 3))},
					fixed(func(_ float64, _ demand, s []*siteState) int { turn++; return turn % len(s) }),
					fixed(func(now float64, _ demand, s []*siteState) int {
						return least(s, func(x *siteState) float64 { return x.rtt(now) })
					}),
				} {
					of[k] = sc.run(1, c)
				}
				var table strings.Builder
				for k, name := range names {
					fmt.Fprintf(&table, "; %s: regret %.1f %%, mean %.1f ms", name, 100*of[k].regret, 1e3*of[k].mean)
				}
				knowable := (1+of[0].regret)/(1+of[0].blind) - 1
				t.Logf("figure: %s, %s: %d calls, blind regret %.1f %%, the model's beyond that %.1f %%; by all that has happened %.1f %%, beyond that %.1f %%%s",
					part, sc.name, len(sc.calls), 100*of[0].blind, 100*knowable, 100*of[0].online, 100*((1+of[0].regret)/(1+of[0].online)-1), table.String())
				most := mostRegret
				if sc.unsized {
					most = mostUnsized
				}
				if knowable > most {
					t.Errorf("a regret of %.1f %% beyond what nobody could know, at most %.0f %% are allowed", 100*knowable, 100*most)
				}
				for k := 1; k < len(names); k++ {
					if of[0].mean > of[k].mean {
						t.Errorf("%s is faster: %.1f ms, the model takes %.1f", names[k], 1e3*of[k].mean, 1e3*of[0].mean)
					}
				}
			})
		}
	}
}
