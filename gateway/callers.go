package gateway

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
)

const (
	// callersKept is how long callers are kept for a federation that does not answer.
	callersKept = time.Hour
	// callersInterval is how often the federation is told of callers: they matter to
	// people, who look back over minutes.
	callersInterval = 5 * time.Second
)

// judged takes every verdict of the own cluster's rules.
func (g *Gateway) judged(j *attempt.Judgement) {
	g.decisions.Note(j)
	g.callers.Add(route.Sighting{SightingKey: route.SightingOf(j.Peer, j.Ask(), j.Verdict), Count: 1, LastSeen: time.Now()})
}

// callers are those that the federation is told of now.
func (r *reports) callers() []route.Sighting {
	if now := time.Now(); now.Sub(r.listed) >= callersInterval {
		r.listed = now
		return r.g.callers.Take(route.MaxReportedSightings)
	}
	return nil
}
