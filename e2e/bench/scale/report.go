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
	line("processor time of them", "%v, %v of it in the source of this program, %d collections", ms(r.BusyCPU), ms(r.Source), r.Collections)
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

// ratios compares this build with another one, both measured in alternation: what a
// machine that others use does to one it does to the other, on the whole.
func ratios(these, those []result) string {
	if len(those) == 0 {
		return ""
	}
	var b strings.Builder
	line := func(what string, of func(result) float64, format string) {
		mean := func(list []result) (sum float64) {
			for _, r := range list {
				sum += of(r)
			}
			return sum / float64(len(list))
		}
		is, was := mean(these), mean(those)
		fmt.Fprintf(&b, "  %-34s "+format+" in place of "+format+", ratio %.2f\n", what, is, was, is/was)
	}
	fmt.Fprintf(&b, "this build and the other, mean of %d\n", len(these))
	line("processor seconds under changes", func(r result) float64 { return r.BusyCPU.Seconds() }, "%.2f")
	line("changes a second", func(r result) float64 { return float64(r.Changes) / r.BusyFor.Seconds() }, "%.1f")
	line("% of a core under changes", func(r result) float64 { return 100 * r.Busy }, "%.2f")
	line("% of a core at rest", func(r result) float64 { return 100 * r.Idle }, "%.2f")
	line("us by change, above rest", func(r result) float64 { return float64(r.perChange().Microseconds()) }, "%.0f")
	line("sleeps of a thread a second", func(r result) float64 { return r.Sleeps }, "%.0f")
	line("processor seconds of first sync", func(r result) float64 { return r.SyncCPU.Seconds() }, "%.2f")
	line("ms to a gateway, median", func(r result) float64 { return (r.Local50 + r.Remote50).Seconds() * 500 }, "%.0f")
	line("ms to a gateway, 99 %", func(r result) float64 { return max(r.Local99, r.Remote99).Seconds() * 1000 }, "%.0f")
	line("heap, MB", func(r result) float64 { return float64(r.Heap-r.Base) / 1e6 }, "%.0f")
	return b.String()
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
