package route

// whole is 100 % in the units of health, load and share: basis points. Envoy
// counts in whole percents, which would round one healthy endpoint of two
// hundred to none.
const whole = 10_000

// overprovision is Envoy's overprovisioning factor of 1.4: a tier counts as
// fully healthy while 1/1.4 = 71.4 % of its endpoints are, since tiers are not
// run at their limit. It stands for what is not known, the capacities.
const overprovision = 14_000

// level is a tier as the load maths sees it.
type level struct {
	// ready and total count endpoints.
	ready, total uint64
	// steady is the part of ready that is in full service; ramping the rest, of
	// which ramped (ready x share, in units of 1/whole) may be used so far.
	steady, ramping, ramped uint64
	// gated: the capacity of all that is ready is known, and slots is what may be
	// used of it.
	gated bool
	slots Graded
	// reachable: there is something to use if health is ignored.
	reachable bool
}

// loaded is what the maths says of one level.
type loaded struct {
	// health and load are in basis points; load sums to whole over the levels,
	// or to 0 if nothing can be used.
	health, load uint64
	// panic: health is to be ignored in this level.
	panic bool
	// unramped: the ramp was ignored (in part), there being nowhere else to go.
	unramped bool
}

// healthOf is Envoy's health(P) = min(100 %, 1.4 x ready/total); what has one
// ready endpoint has some health.
func healthOf(ready, total uint64) uint64 {
	if ready == 0 || total == 0 {
		return 0
	}
	return min(whole, max(ready*overprovision/total, 1))
}

// health of the level if ready of its endpoints were. Where the capacity is known the
// factor is not needed, nor the share of those that are ready: the level is whole as
// long as it has any, and its gates send on what does not fit.
func (l level) health(ready uint64) uint64 {
	if l.gated && ready > 0 {
		return whole
	}
	return healthOf(ready, l.total)
}

// rampedHealth is the health of l while part of it ramps up: between the health
// without that part and the full health, in proportion to its share, so that a
// lone candidate at a share of 10 % draws 10 % of the load.
func (l level) rampedHealth() uint64 {
	full := l.health(l.ready)
	if l.ramping == 0 {
		return full
	}
	base := l.health(l.steady)
	return base + (full-base)*l.ramped/(l.ramping*whole)
}

// loadsOf is Envoy's priority load with its panic threshold (percent; 0 turns
// panic off):
//
//	norm     = min(100 %, sum of health)
//	load(P)  = min(100 % - load of the levels above, health(P) / norm)
//	panic(P) = norm < 100 % and ready/total < threshold
//
// Where nothing is healthy and panic is allowed, the first level with anything
// in it takes all. Sources:
// envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
// and .../panic_threshold.
//
// Ours is the ramp: a level's health is lowered to its ramped one as far as the
// levels together still reach 100 %, or what they reach without the ramp.
func loadsOf(levels []level, threshold uint64) []loaded {
	out := make([]loaded, len(levels))
	var full, ramped uint64
	for i, l := range levels {
		out[i].health = l.rampedHealth()
		full += l.health(l.ready)
		ramped += out[i].health
	}
	missing := min(full, whole) - min(ramped, whole)
	for i, l := range levels {
		if back := min(missing, l.health(l.ready)-out[i].health); back > 0 {
			out[i].health += back
			out[i].unramped = true
			missing -= back
		}
	}
	for i, l := range levels {
		out[i].panic = full < whole && threshold > 0 && l.reachable && l.ready*100 < threshold*l.total
	}
	share(out)
	if full == 0 {
		for i := range out {
			if out[i].panic {
				out[i].load = whole
				break
			}
		}
	}
	return out
}

// share turns health into load; what whole numbers leave over goes to the first
// level that has any.
func share(levels []loaded) {
	var sum uint64
	for _, l := range levels {
		sum += l.health
	}
	norm := min(sum, whole)
	if norm == 0 {
		return
	}
	left, first := uint64(whole), -1
	for i := range levels {
		load := min(left, levels[i].health*whole/norm)
		levels[i].load = load
		left -= load
		if first < 0 && load > 0 {
			first = i
		}
	}
	if first >= 0 {
		levels[first].load += left
	}
}
