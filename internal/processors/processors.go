package processors

import (
	"context"
	"os"
	"runtime"
	"time"
)

const (
	// every is how often the process is looked at.
	every = time.Second
	// quiet is the share of a core below which a second is quiet, calm how many of
	// them in a row narrow the process.
	quiet = 0.2
	calm  = 5
	// busy is the share of a core that widens it at once: what needs more than one
	// core has used more than half of it.
	busy = 0.5
	// A process that has to wait for a core looks quiet, and has two places in the
	// queue with two processors: late tells it, by how much too late it is woken. A
	// second is not quiet where that is above punctual, and above starved it widens.
	punctual = 20 * time.Millisecond
	starved  = 100 * time.Millisecond
)

// Follow gives the process one processor while it is quiet, and all that the runtime
// would use while it is not, until ctx ends. It leaves the choice to who has made one
// (GOMAXPROCS in the environment), and to the runtime where there is none to make.
func Follow(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) == 1 {
		return
	}
	p := process{used: used, narrow: func() { runtime.GOMAXPROCS(1) }, widen: runtime.SetDefaultGOMAXPROCS}
	p.follow(ctx)
}

// process is what is looked at, and what can be done about it.
type process struct {
	used          func() (time.Duration, bool) // of all cores; false where it cannot be told
	narrow, widen func()

	isNarrow bool
	calm     int // quiet seconds in a row
}

func (p *process) follow(ctx context.Context) {
	before, ok := p.used()
	if !ok {
		return
	}
	defer func() {
		if p.isNarrow {
			p.widen()
		}
	}()
	wake := time.NewTimer(every)
	defer wake.Stop()
	for at := time.Now(); ; {
		select {
		case <-wake.C:
		case <-ctx.Done():
			return
		}
		used, ok := p.used()
		if !ok {
			return
		}
		now := time.Now()
		lasted := now.Sub(at)
		p.judge((used-before).Seconds()/lasted.Seconds(), lasted-every)
		before, at = used, now
		wake.Reset(every)
	}
}

// judge takes the share of a core that was used since it was asked last, and how
// late it is asked.
func (p *process) judge(share float64, late time.Duration) {
	if p.calm++; share >= quiet || late >= punctual {
		p.calm = 0
	}
	switch {
	case p.isNarrow && (share >= busy || late >= starved):
		p.isNarrow = false
		p.widen()
	case !p.isNarrow && p.calm >= calm:
		p.isNarrow = true
		p.narrow()
	}
}
