package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sample is what one run of a workload through one peer gave.
type sample struct {
	Workload string `json:"workload"`
	Peer     string `json:"peer"`
	Round    int    `json:"round"`
	// Figures by name; what was not measured is not there.
	Figures map[string]float64 `json:"figures"`
	// Failed is how many attempts failed in the whole run, Failure the first of them.
	Failed  int64  `json:"failed"`
	Failure string `json:"failure,omitempty"`
}

// workload is one kind of use.
type workload struct {
	name, what string
	callers    int
	work       func(target) func(context.Context, *load) error // nil: idle connections
	// rate and cost are the names of its figures; per is how many exchanges or bytes
	// each counts by.
	rate, cost string
	per        float64
	// far workloads are over the link, with so many of a million packets lost each way.
	far  bool
	loss int64
	// longer is how many times as long as others it is measured.
	longer time.Duration
}

var workloads = []workload{
	{name: "w1", what: "a new connection for each request of 1 KiB, 16 callers", callers: 16, work: fresh, rate: "connections/s", cost: "CPU us/connection", per: 1},
	{name: "w2", what: "requests of 1 KiB on 64 kept connections", callers: 64, work: kept, rate: "requests/s", cost: "CPU us/request", per: 1},
	{name: "w3", what: "bulk on one connection", callers: 1, work: bulk, rate: "MB/s", cost: "CPU us/MB", per: 1e6},
	{name: "w3x8", what: "bulk on eight connections", callers: 8, work: bulk, rate: "MB/s", cost: "CPU us/MB", per: 1e6},
	{name: "w5", what: "idle connections", cost: idleFigure},
	{name: "w1far", what: "w1 by 32 callers over 40 ms", callers: 32, work: fresh, rate: "connections/s", cost: "CPU us/connection", per: 1, far: true},
	{name: "w1loss", what: "the same with 1 % of packets lost each way", callers: 32, work: fresh, rate: "connections/s", cost: "CPU us/connection", per: 1, far: true, loss: 10_000, longer: 2},
	{name: "w3loss", what: "bulk on one connection over 40 ms with 1 % lost", callers: 1, work: bulk, rate: "MB/s", cost: "CPU us/MB", per: 1e6, far: true, loss: 10_000, longer: 2},
	{name: "w4", what: "requests of 1 KiB on 100 kept connections over 40 ms with 1 % lost", callers: 100, work: kept, rate: "requests/s", cost: "CPU us/request", per: 1, far: true, loss: 10_000, longer: 3},
}

const (
	idleFigure = "KiB/connection"
	middle     = "ms, p50"
	tail       = "ms, p99"
	worst      = "ms, p99.9"
)

func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

func workloadOf(name string) workload {
	return workloads[slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })]
}

// skips tells whether a peer has no part in the workload: it is for another one, or has
// no processes whose memory there is to count.
func (w workload) skips(r *pair) bool {
	return !w.takes(r.peer.name) || w.work == nil && len(r.pids) == 0
}

// takes tells whether a peer is for the workload.
func (w workload) takes(name string) bool {
	only := peerOf(name).only
	return len(only) == 0 || slices.Contains(only, w.name)
}

// through runs the workload once.
func (w workload) through(ctx context.Context, r *pair, s *service, p parameters, round int) (sample, error) {
	got := sample{Workload: w.name, Peer: r.peer.name, Round: round, Figures: map[string]float64{}}
	if w.work == nil {
		size, err := idle(ctx, r.peer.name, s, p)
		got.Figures[w.cost] = size / kib
		return got, err
	}
	warm, length := p.Warm, p.Length*max(1, w.longer)
	if r.at.link != nil {
		// Bulk needs many round trips to find its rate.
		warm += 25 * 2 * oneWay
		r.at.link.loss.Store(w.loss)
	}
	l := begin(ctx, w.callers, w.work(r.target))
	defer l.end()
	if !wait(ctx, warm) {
		return got, ctx.Err()
	}
	user, kernel, err := cpu(r.pids)
	if err != nil {
		return got, err
	}
	begun, before := time.Now(), l.done.Load()
	l.recording.Store(true)
	if !wait(ctx, length) {
		return got, ctx.Err()
	}
	l.recording.Store(false)
	done, took := float64(l.done.Load()-before)/w.per, time.Since(begun)
	userAfter, kernelAfter, err := cpu(r.pids)
	if err != nil {
		return got, err
	}
	l.end()
	if got.Failed = l.failed.Load(); got.Failed > 0 {
		got.Failure = l.first.Error()
	}
	if done == 0 {
		return got, fmt.Errorf("nothing was done within %s: %w", took, errors.Join(l.first, context.DeadlineExceeded))
	}
	got.Figures[w.rate] = done / took.Seconds()
	if len(r.pids) > 0 {
		got.Figures[w.cost] = float64((userAfter - user + kernelAfter - kernel).Microseconds()) / done
		got.Figures["of it in the kernel"] = float64(kernelAfter-kernel) / max(1, float64(userAfter-user+kernelAfter-kernel))
	}
	if len(l.took) > 0 {
		slices.Sort(l.took)
		got.Figures[middle], got.Figures[tail], got.Figures[worst] = quantile(l.took, 0.5), quantile(l.took, 0.99), quantile(l.took, 0.999)
	}
	return got, nil
}

// quantile of times in order, in milliseconds.
func quantile(took []time.Duration, q float64) float64 {
	return took[min(len(took)-1, int(q*float64(len(took))))].Seconds() * 1000
}

// settled is how long idle connections are left alone before memory is looked at: what
// a pair holds for a moment only, it then has given back.
const settled = time.Second

// idle is how many bytes of memory an idle connection takes, in a pair of its own: one
// that has done other work keeps what it needed for that.
func idle(ctx context.Context, name string, s *service, p parameters) (float64, error) {
	r, err := startPair(ctx, name, s.address, loopback, p)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	request := r.request()
	open := func(n int) (conns []*caller, err error) {
		for range n {
			c, err := dial(ctx, r.target)
			if err == nil {
				conns = append(conns, c)
				err = c.call(request)
			}
			if err != nil {
				return conns, fmt.Errorf("connection %d: %w", len(conns), err)
			}
		}
		return conns, nil
	}
	shut := func(conns []*caller) {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	first, err := open(min(100, p.Connections)) // what the first connections need once
	shut(first)
	if err != nil {
		return 0, err
	}
	wait(ctx, settled)
	before, err := memory(r.pids)
	if err != nil {
		return 0, err
	}
	already := s.open.Load()
	conns, err := open(p.Connections)
	defer shut(conns)
	if err != nil {
		return 0, err
	}
	wait(ctx, settled)
	// Connections that were given up on the way take nothing, and would look cheap.
	if now := s.open.Load() - already; now < int64(p.Connections) {
		return 0, fmt.Errorf("%d of %d connections are open at the service", now, p.Connections)
	}
	after, err := memory(r.pids)
	return float64(after-before) / float64(p.Connections), err
}
