package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// size is how much of everything there is.
type size struct {
	Peers int `json:"peers"`
	// Services are the own ones; peers offer services of the same names.
	Services int `json:"services"`
	// Spread is how many peers offer each service.
	Spread    int `json:"spread"`
	Endpoints int `json:"endpoints"`
	Gateways  int `json:"gateways"`
}

// share is a part of everything; there are never fewer peers than each service
// has.
func (s size) share(percent int) size {
	part := func(n int) int { return max(1, n*percent/100) }
	s.Peers = min(s.Peers, max(s.Spread, part(s.Peers)))
	s.Services, s.Endpoints = part(s.Services), part(s.Endpoints)
	return s
}

// rows are the summary rows that all peers tell together: one for each service.
func (s size) rows() int { return s.Services * s.Spread }

func (s size) String() string {
	return fmt.Sprintf("%d peers, %d services in %d peers each (%d rows), %d endpoints, %d gateways",
		s.Peers, s.Services, s.Spread, s.rows(), s.Endpoints, s.Gateways)
}

// offeredBy are the services that a peer offers: service i is with the peers
// i, i+1, ... i+Spread-1, counted in a circle.
func (s size) offeredBy(peer int) (services []int) {
	for i := range s.Services {
		if (peer-i%s.Peers+s.Peers)%s.Peers < s.Spread {
			services = append(services, i)
		}
	}
	return services
}

// plan is what the flags say.
type plan struct {
	size
	Shares  []int
	Rate    int           // changes a second
	Steady  time.Duration // how long changes are made
	Profile string        // directory of CPU and heap profiles; "" writes none
	Memory  bool          // tell what an endpoint and a row cost
	Against string        // another build of this program, to be compared with; "" is none
	Rounds  int           // how often each size is measured
}

func parseFlags(args []string) (plan, error) {
	p := plan{size: size{}}
	var shares string
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.IntVar(&p.Peers, "peers", 200, "peers of the federation")
	f.IntVar(&p.Services, "services", 10_000, "services, own and offered by peers")
	f.IntVar(&p.Spread, "spread", 20, "peers that offer each service")
	f.IntVar(&p.Endpoints, "endpoints", 1_000_000, "own endpoints")
	f.IntVar(&p.Gateways, "gateways", 3, "own gateways that follow the table")
	f.IntVar(&p.Rate, "rate", 100, "changes a second")
	f.DurationVar(&p.Steady, "steady", 20*time.Second, "how long changes are made")
	f.BoolVar(&p.Memory, "memory", false, "run the largest size twice more, to tell what an endpoint and a row take")
	f.StringVar(&shares, "shares", "1,10,100", "sizes to run, in percent")
	f.StringVar(&p.Profile, "profile", "", "directory for CPU and heap profiles")
	f.StringVar(&p.Against, "against", "", "another build of this program: measure it in alternation, and print the ratios")
	f.IntVar(&p.Rounds, "rounds", 1, "how often each size is measured")
	if err := f.Parse(args); err != nil {
		return p, err
	}
	if p.Rounds < 1 {
		return p, fmt.Errorf("rounds: value %d: at least 1", p.Rounds)
	}
	for s := range strings.SplitSeq(shares, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 100 {
			return p, fmt.Errorf("shares: value %q: must be percentages from 1 to 100", s)
		}
		p.Shares = append(p.Shares, n)
	}
	if p.Rate < 2 {
		return p, fmt.Errorf("rate: value %d: at least 2, one change of each kind", p.Rate)
	}
	if p.Spread > p.Peers {
		return p, fmt.Errorf("spread: value %d: at most peers, %d", p.Spread, p.Peers)
	}
	return p, nil
}
