package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "pair:", err)
		os.Exit(1)
	}
}

// parameters are the flags.
type parameters struct {
	Rounds      int           `json:"rounds"`
	Length      time.Duration `json:"length"`
	Warm        time.Duration `json:"warm"`
	Connections int           `json:"connections"`
	AccessLog   string        `json:"access_log"`
	Against     string        `json:"against,omitempty"`
	Peers       []string      `json:"peers"`
	Workloads   []string      `json:"workloads"`
	JSON        bool          `json:"-"`
}

func parse(args []string, stderr io.Writer) (parameters, error) {
	var p parameters
	flags := flag.NewFlagSet("pair", flag.ContinueOnError)
	flags.SetOutput(stderr)
	peers := flags.String("peers", strings.Join(peerNames(), ","), "what is measured, the peers' names")
	loads := flags.String("workloads", strings.Join(workloadNames(), ","), "what is done with them, the workloads' names")
	flags.IntVar(&p.Rounds, "rounds", 5, "how often each workload is run through each peer")
	flags.DurationVar(&p.Length, "length", time.Second, "how long one run is measured")
	flags.DurationVar(&p.Warm, "warm", 300*time.Millisecond, "how long one run goes on before it is measured")
	flags.IntVar(&p.Connections, "connections", 2000, "idle connections of w5")
	flags.StringVar(&p.AccessLog, "access-log", "off", "gateway.access_log of the gateways; the other peers write none")
	flags.StringVar(&p.Against, "against", "", "another build of isthmus, which is measured as the peer "+otherPeer)
	flags.BoolVar(&p.JSON, "json", false, "print every figure of every round, and the ratios, as JSON")
	if err := flags.Parse(args); err != nil {
		return p, err
	}
	if flags.NArg() > 0 {
		return p, fmt.Errorf("argument %q: there are only flags", flags.Arg(0))
	}
	var err error
	if p.Peers, err = chosen("peers", *peers, peerNames()); err != nil {
		return p, err
	}
	if p.Against != "" {
		if p.Against, err = exec.LookPath(p.Against); err == nil {
			p.Against, err = filepath.Abs(p.Against)
		}
		if err != nil {
			return p, fmt.Errorf("-against: %w", err)
		}
		p.Peers = append(p.Peers, otherPeer)
	}
	if p.Workloads, err = chosen("workloads", *loads, workloadNames()); err != nil {
		return p, err
	}
	switch {
	case p.Rounds < 1:
		return p, fmt.Errorf("-rounds %d: must be at least 1", p.Rounds)
	case p.Length < 100*time.Millisecond:
		return p, fmt.Errorf("-length %s: must be at least 100ms, since processor time is counted in steps of 10ms", p.Length)
	case p.Connections < 1 || p.Connections > 10_000:
		return p, fmt.Errorf("-connections %d: must be 1 to 10000, which a listener of a gateway takes", p.Connections)
	}
	return p, nil
}

// chosen reads a list of names, each of which must be known.
func chosen(name, list string, known []string) ([]string, error) {
	var names []string
	for n := range strings.SplitSeq(list, ",") {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("-%s %q: must be of %s", name, n, strings.Join(known, ", "))
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p, err := parse(args, stderr)
	if err != nil {
		return err
	}
	r := report{Machine: describe(), Parameters: p}
	if err := r.measure(ctx, stderr); err != nil {
		return err
	}
	r.summarize()
	if p.JSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err = io.WriteString(stdout, r.String())
	return err
}

// measure runs the rounds of all workloads.
func (r *report) measure(ctx context.Context, progress io.Writer) error {
	for _, far := range []bool{false, true} {
		some := r.Parameters
		some.Workloads = slices.DeleteFunc(slices.Clone(some.Workloads), func(name string) bool { return workloadOf(name).far != far })
		if len(some.Workloads) == 0 {
			continue
		}
		at := loopback
		if far {
			over, stop, err := openLink(ctx)
			if err != nil {
				r.Missing = append(r.Missing, fmt.Sprintf("%s: no link of 40 ms, which is for root on Linux: %v", strings.Join(some.Workloads, ", "), err))
				continue
			}
			defer stop()
			at = over
		}
		samples, missing, err := measureAt(ctx, at, some, progress)
		if err != nil {
			return err
		}
		r.Samples, r.Missing = append(r.Samples, samples...), append(r.Missing, missing...)
		if at.link != nil {
			r.Link = at.link.traffic()
		}
	}
	slices.Sort(r.Missing)
	r.Missing = slices.Compact(r.Missing)
	return nil
}

// measureAt runs the rounds of the workloads of one place. Missing are the peers that this
// machine lacks, and why.
func measureAt(ctx context.Context, at place, p parameters, progress io.Writer) (samples []sample, missing []string, err error) {
	s, err := newService(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	var running []*pair
	defer func() {
		for _, r := range running {
			r.stop()
		}
	}()
	for _, name := range p.Peers {
		if !slices.ContainsFunc(p.Workloads, func(w string) bool { return workloadOf(w).takes(name) }) {
			continue
		}
		r, err := startPair(ctx, name, s.address, at, p)
		if lack, ok := errors.AsType[*missingError](err); ok {
			missing = append(missing, lack.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		running = append(running, r)
	}
	for round := range p.Rounds {
		for _, name := range p.Workloads {
			w := workloadOf(name)
			for i := range running {
				r := running[(i+round)%len(running)]
				if w.skips(r) {
					continue
				}
				fmt.Fprintf(progress, "round %d of %d: %s, %s        \r", round+1, p.Rounds, w.name, r.peer.name)
				got, err := w.through(ctx, r, s, p, round)
				if err != nil {
					return nil, nil, fmt.Errorf("%s through %s, round %d: %w", w.name, r.peer.name, round+1, err)
				}
				samples = append(samples, got)
			}
		}
	}
	fmt.Fprintln(progress)
	return samples, missing, nil
}
