package main

import (
	"fmt"
	"strings"
	"time"
)

// String is one size's figures, a line each.
func (r result) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-34s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("first sync at every gateway", "%v (%v of CPU)", ms(r.FirstSync), ms(r.SyncCPU))
	line("heap at rest", "%.1f MB above %.1f MB", float64(r.Heap-r.Base)/1e6, float64(r.Base)/1e6)
	line("CPU at rest", "%.1f %% of a core, %.0f sleeps of a thread a second", 100*r.Idle, r.Rested)
	line(fmt.Sprintf("CPU at %d changes", r.Changes), "%.1f %% of a core (%.1f %% in the kernel), %.0f sleeps of a thread a second", 100*r.Busy, 100*r.Kernel, r.Sleeps)
	line("CPU by change, above rest", "%v", r.perChange())
	line("endpoint to every gateway", "p50 %v, p99 %v, worst %v", ms(r.Local50), ms(r.Local99), ms(r.LocalMax))
	line("peer's row to every gateway", "p50 %v, p99 %v, worst %v", ms(r.Remote50), ms(r.Remote99), ms(r.RemoteMax))
	line("changes that did not arrive", "%d", r.Missing)
	line("bytes to a gateway by change", "%.0f", r.Sent)
	line("tables applied, lines to peers", "%d, %d", r.Tables, r.Told)
	return b.String()
}

// perChange is the CPU that one change costs.
func (r result) perChange() time.Duration {
	rate := float64(r.Changes) / max(r.BusyFor.Seconds(), 1e-9)
	return time.Duration((r.Busy - r.Idle) / max(rate, 1e-9) * float64(time.Second)).Round(time.Microsecond)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// curve compares the sizes.
func curve(results []result) string {
	if len(results) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteString("services\tendpoints\trows\tfirst sync\tCPU/change\tbytes/change\tp99\theap\n")
	for _, r := range results {
		fmt.Fprintf(&b, "%d\t%d\t%d\t%v\t%v\t%.0f\t%v\t%.1f MB\n", r.Size.Services, r.Size.Endpoints, r.Size.rows(),
			ms(r.FirstSync), r.perChange(), r.Sent, ms(max(r.Local99, r.Remote99)), float64(r.Heap-r.Base)/1e6)
	}
	return b.String()
}
