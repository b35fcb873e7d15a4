package faults_test

import (
	"testing"
	"time"
)

// lostFor is how long a path is cut: several times what it takes to notice.
const lostFor = 4 * time.Second

// paths are the ways in which a path is lost without a word.
var paths = []struct {
	name        string
	there, back bool
}{
	{"black hole", true, true},
	{"one-way cut, home to first", true, false},
	{"one-way cut, first to home", false, true},
}

// TestPathsByRelay: the path between the callers' gateway and the cluster that
// answers is cut; the next cluster answers, and the first one again when it heals.
func TestPathsByRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{rate: 100, relays: true})
	w.cutPaths(t, w.cutByRelays)
}

func (w *world) cutPaths(t *testing.T, cut func(there, back bool)) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			wentOn(t, w.strike(t, fault{
				strike: func() { cut(p.there, p.back) },
				heal:   func() { cut(false, false) },
				lasts:  lostFor,
			}))
		})
	}
}
