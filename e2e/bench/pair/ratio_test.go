package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3, 1}},
		{[]float64{9, 1, 4}, spread{4, 1, 9, 3}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9, 4}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spreadOf(%v) = %+v, want %+v", c.values, got, c.want)
		}
	}
}

// rounds of one figure of two peers: the machine was twice as slow in the second.
func rounds() []sample {
	of := func(peer string, round int, rate float64) sample {
		return sample{Workload: "w2", Peer: peer, Round: round, Figures: map[string]float64{"requests/s": rate}}
	}
	return []sample{
		of("isthmus", 0, 1200), of("haproxy", 0, 1000),
		of("haproxy", 1, 500), of("isthmus", 1, 550),
		of("isthmus", 2, 900), of("haproxy", 2, 1000),
		of("isthmus", 3, 700), // haproxy has no fourth round
		of("haproxy", 4, 0), of("isthmus", 4, 10),
	}
}

// Ratios are of one round: the medians' ratio would be 700/500.
func TestRatiosAreOfOneRound(t *testing.T) {
	got := spreadOf(ratios(figures(rounds(), "w2", "isthmus", "requests/s"), figures(rounds(), "w2", "haproxy", "requests/s")))
	want := spread{Median: 1.1, Min: 0.9, Max: 1.2, Rounds: 3}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if none := ratios(figures(rounds(), "w2", "isthmus", "requests/s"), figures(rounds(), "w2", "nginx", "requests/s")); none != nil {
		t.Errorf("ratios to a peer that did not run: %v", none)
	}
}

func TestReport(t *testing.T) {
	r := report{
		Parameters: parameters{Peers: []string{"isthmus", "haproxy"}, Workloads: []string{"w2"}},
		Samples:    rounds(),
		Missing:    []string{"nginx: no nginx here"},
	}
	r.Samples[0].Failed, r.Samples[0].Failure = 3, "connection reset"
	r.summarize()
	text := r.String()
	for _, want := range []string{
		"1.10 (0.90..1.20)",        // isthmus by haproxy
		"reached 1.100, goal >= 1", // the goal of w2
		"missing: nginx: no nginx", // said, not left out
		"3 attempts failed, the first: connection reset",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "CPU us/request") {
		t.Errorf("the report has a figure that nobody measured:\n%s", text)
	}
}

func TestGoalsNameWhatIsMeasured(t *testing.T) {
	for _, g := range goals {
		w := workloadOf(g.workload)
		if !slices.Contains([]string{w.rate, w.cost, middle, tail, worst}, g.figure) {
			t.Errorf("goal of %s is about %q, which it does not measure", g.workload, g.figure)
		}
	}
}

func TestParametersThatAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"-peers envoy":           `-peers "envoy": must be of direct, isthmus,`,
		"-workloads w2,w9":       `-workloads "w9": must be of w1,`,
		"-rounds 0":              "-rounds 0: must be at least 1",
		"-length 1ms":            "-length 1ms: must be at least 100ms",
		"-connections 1000000":   "-connections 1000000: must be 1 to 10000",
		"-against /no/such":      `-against: `,
		"-rounds 1 and the rest": `argument "and"`,
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}
