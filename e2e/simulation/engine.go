package simulation

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// zero is the start of simulated time. Nothing depends on what it is.
var zero = time.Unix(1_800_000_000, 0).UTC()

// engine runs events in the order of their times, those of one time in the order
// in which they were made. It is the only source of time and of randomness.
type engine struct {
	now   time.Duration
	seq   uint64
	queue []event // a binary heap
	rng   *rand.Rand
	steps uint64
	hash  uint64
	out   io.Writer // the readable trace; nil writes none
}

type event struct {
	at  time.Duration
	seq uint64
	run func()
}

func newEngine(seed uint64, out io.Writer) engine {
	const stream = 0x9e3779b97f4a7c15
	return engine{rng: rand.New(rand.NewPCG(seed, stream)), hash: hashSeed ^ seed, out: out}
}

func (e *engine) before(i, j int) bool {
	a, b := &e.queue[i], &e.queue[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

// at runs something at a time, or now if that has passed.
func (e *engine) at(t time.Duration, run func()) {
	e.seq++
	e.queue = append(e.queue, event{max(t, e.now), e.seq, run})
	for i := len(e.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !e.before(i, parent) {
			break
		}
		e.queue[i], e.queue[parent] = e.queue[parent], e.queue[i]
		i = parent
	}
}

func (e *engine) after(d time.Duration, run func()) { e.at(e.now+d, run) }

// step runs the next event that is not after limit.
func (e *engine) step(limit time.Duration) bool {
	if len(e.queue) == 0 || e.queue[0].at > limit {
		return false
	}
	next := e.queue[0]
	last := len(e.queue) - 1
	e.queue[0] = e.queue[last]
	e.queue[last] = event{}
	e.queue = e.queue[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && e.before(child+1, child) {
			child++
		}
		if !e.before(child, i) {
			break
		}
		e.queue[i], e.queue[child] = e.queue[child], e.queue[i]
		i = child
	}
	e.now = next.at
	e.steps++
	next.run()
	return true
}

// FNV-1a, 64 bits.
const (
	hashSeed  = 14695981039346656037
	hashPrime = 1099511628211
)

func (e *engine) mix(n uint64) {
	e.hash = (e.hash ^ n) * hashPrime
	e.hash ^= e.hash >> 31
}

func (e *engine) mixText(s string) {
	for i := range len(s) {
		e.hash = (e.hash ^ uint64(s[i])) * hashPrime
	}
}

// note enters something that happened into the hash, and into the trace.
func (e *engine) note(who, what string, n uint64) {
	e.mix(uint64(e.now))
	e.mixText(who)
	e.mixText(what)
	e.mix(n)
	if e.out != nil {
		_, _ = fmt.Fprintf(e.out, "%12.6f  %-8s %s", e.now.Seconds(), who, what)
		if n != 0 {
			_, _ = fmt.Fprintf(e.out, " %d", n)
		}
		_, _ = fmt.Fprintln(e.out)
	}
}

// tracing says that a readable trace is written; what only it shows need not be
// made otherwise.
func (e *engine) tracing() bool { return e.out != nil }

// say writes a line into the trace only.
func (e *engine) say(who, format string, args ...any) {
	if e.out != nil {
		_, _ = fmt.Fprintf(e.out, "%12.6f  %-8s %s\n", e.now.Seconds(), who, fmt.Sprintf(format, args...))
	}
}

// The draws. Every one is of the engine's only source.

func (e *engine) chance(p float64) bool { return p > 0 && e.rng.Float64() < p }

func (e *engine) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(e.rng.Int64N(int64(b-a)))
}

func (e *engine) number(a, b int) int { return a + e.rng.IntN(b-a+1) }

func pick[T any](e *engine, list []T) T { return list[e.rng.IntN(len(list))] }

// process is what can crash, be held up, and have a wrong clock: a gateway or a
// federation.
type process struct {
	*engine
	name string
	up   bool
	life int // counts starts: what an earlier life has set in motion is void
	born time.Duration
	// held: it gets no CPU before.
	held time.Duration
	// skew is how wrong its clock is. It changes at a restart only: inside of a
	// process time is monotonic, whatever happens to the wall clock.
	skew time.Duration
}

// clock is the process's.
func (p *process) clock() time.Time { return zero.Add(p.now + p.skew) }

// after runs something in this life of the process, when it has the CPU.
func (p *process) after(d time.Duration, run func()) { p.at(p.now+d, run) }

func (p *process) at(t time.Duration, run func()) {
	life := p.life
	var do func()
	do = func() {
		switch {
		case !p.up || p.life != life:
		case p.held > p.now:
			p.engine.at(p.held, do)
		default:
			run()
		}
	}
	p.engine.at(t, do)
}

// stall takes the CPU from the process for a while.
func (p *process) stall(d time.Duration) {
	p.held = max(p.held, p.now+d)
	p.note(p.name, "stalls for ms", uint64(d.Milliseconds()))
}

// runs reports whether the process has been up and has had the CPU since then.
func (p *process) runs(since time.Duration) bool { return p.up && p.born <= since && p.held <= since }
