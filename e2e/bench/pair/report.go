package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// machine is what the figures depend on.
type machine struct {
	Cores      int    `json:"cores"`
	Go         string `json:"go"`
	Congestion string `json:"tcp_congestion_control"`
	Load       string `json:"load_average"`
}

func describe() machine {
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(data))
	}
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	return machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(), Load: load,
		Congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
	}
}

// goal is what a ratio of Isthmus is held to.
type goal struct {
	workload, figure string
	by               string
	bound            float64
	atLeast          bool // else at most
}

var goals = []goal{
	{"w1", "connections/s", "haproxy", 5, true},
	{"w2", "requests/s", "haproxy", 1, true},
	{"w2", "CPU us/request", "haproxy", 1.1, false},
	{"w3", "MB/s", "haproxy", 0.95, true},
	{"w3x8", "MB/s", "haproxy", 0.95, true},
	{"w5", idleFigure, "haproxy", 0.45, false},
	{"w1far", middle, "direct", 0.55, false},
	{"w1loss", tail, "direct", 0.10, false},
	{"w3loss", "MB/s", "haproxy", 0.9, true},
	{"w4", worst, "direct", 0.33, false},
	{"w4", worst, "haproxy", 0.33, false},
	{"w4", "requests/s", "direct", 1, true},
}

// line is one figure of one peer, and its ratios.
type line struct {
	Workload string `json:"workload"`
	Figure   string `json:"figure"`
	Peer     string `json:"peer"`
	Value    spread `json:"value"`
	// ByHaproxy and ByDirect are ratios of figures of the same round.
	ByHaproxy spread `json:"by_haproxy"`
	ByDirect  spread `json:"by_direct"`
}

// report is a whole run.
type report struct {
	Machine    machine    `json:"machine"`
	Parameters parameters `json:"parameters"`
	Missing    []string   `json:"missing"`
	Link       *traffic   `json:"link,omitempty"`
	Lines      []line     `json:"figures"`
	Samples    []sample   `json:"samples"`
}

// summarize makes the lines of the samples.
func (r *report) summarize() {
	for _, name := range r.Parameters.Workloads {
		w := workloadOf(name)
		for _, figure := range []string{w.rate, middle, tail, worst, w.cost} {
			if figure == "" {
				continue
			}
			if w.name != "w4" && figure == worst {
				continue // of too few exchanges
			}
			of := func(peer string) map[int]float64 { return figures(r.Samples, name, peer, figure) }
			for _, peer := range r.Parameters.Peers {
				if own := of(peer); len(own) > 0 {
					r.Lines = append(r.Lines, line{
						Workload: name, Figure: figure, Peer: peer, Value: spreadOf(values(own)),
						ByHaproxy: spreadOf(ratios(own, of("haproxy"))), ByDirect: spreadOf(ratios(own, of("direct"))),
					})
				}
			}
		}
	}
}

// String is the report for people.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores, load average %s before, %s, TCP congestion control %s; %d rounds of %s, access log %s\n",
		r.Machine.Cores, r.Machine.Load, r.Machine.Go, r.Machine.Congestion,
		r.Parameters.Rounds, r.Parameters.Length, r.Parameters.AccessLog)
	fmt.Fprintf(&b, "medians of the rounds; ratios are of one round: median (least..greatest)\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "workload\tfigure\tpeer\tmedian\tby haproxy\tby direct")
	var before line
	for _, l := range r.Lines {
		workload, figure := l.Workload, l.Figure
		if workload == before.Workload && figure == before.Figure {
			workload, figure = "", ""
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.4g\t%s\t%s\n", workload, figure, l.Peer, l.Value.Median, l.ByHaproxy.ratio(), l.ByDirect.ratio())
		before = l
	}
	_ = t.Flush() // to memory
	b.WriteString("\n")
	for _, g := range goals {
		i := slices.IndexFunc(r.Lines, func(l line) bool {
			return l.Workload == g.workload && l.Figure == g.figure && l.Peer == "isthmus"
		})
		if i < 0 {
			continue
		}
		ratio := r.Lines[i].ByHaproxy
		if g.by == "direct" {
			ratio = r.Lines[i].ByDirect
		}
		if ratio.Rounds == 0 {
			continue
		}
		got := ratio.Median
		outcome, sign := "missed", "<="
		if g.atLeast {
			sign = ">="
		}
		if g.atLeast && got >= g.bound || !g.atLeast && got <= g.bound {
			outcome = "reached"
		}
		fmt.Fprintf(&b, "%s, %s by %s: %s %.3f, goal %s %g\n", g.workload, g.figure, g.by, outcome, got, sign, g.bound)
	}
	for _, w := range r.Parameters.Workloads {
		fmt.Fprintf(&b, "%s: %s\n", w, workloadOf(w).what)
	}
	if l := r.Link; l != nil {
		fmt.Fprintf(&b, "link of 40 ms: %d packets, %d lost, %d more than it holds, at worst %s late\n", l.Packets, l.Lost, l.Full, l.Late.Round(time.Millisecond))
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "missing: %s\n", m)
	}
	for _, s := range r.Samples {
		if s.Failed > 0 {
			fmt.Fprintf(&b, "%s through %s, round %d: %d attempts failed, the first: %s\n", s.Workload, s.Peer, s.Round+1, s.Failed, s.Failure)
		}
	}
	return b.String()
}
