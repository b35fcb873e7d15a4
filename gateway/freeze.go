package gateway

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/switches"
)

const (
	// switchInterval is how often the file of the switches is looked at.
	switchInterval = time.Second
	// switchReminder is how often the log is told that a switch is on.
	switchReminder = time.Minute
)

// switchboard follows the file of the gateway's own switches.
type switchboard struct {
	g    *Gateway
	now  switches.State
	told time.Time
}

// boot reads the switches before anything is decided.
func (s *switchboard) boot() { s.read(true) }

// follow obeys the file until ctx ends.
func (s *switchboard) follow(ctx context.Context) error {
	for pause(ctx, switchInterval) {
		s.read(false)
	}
	return nil
}

// read obeys the file. One that cannot be read changes nothing: what an operator has
// set stays set. At boot, where nothing is set yet, it is told and nothing is.
func (s *switchboard) read(boot bool) {
	g := s.g
	state, damage, err := switches.Load(g.config.DataDir)
	if damage != nil && err == nil {
		g.log.Error("the switches' file was damaged", "path", g.config.DataDir, "err", damage)
	}
	if err != nil {
		g.conditions.Set(conditionSwitches, false, "the file cannot be read, what was set stays: "+err.Error())
		if time.Since(s.told) >= switchReminder {
			s.told = time.Now()
			g.log.Error("the switches cannot be read, what was set stays", "path", g.config.DataDir, "err", err)
		}
		return
	}
	text := state.String()
	if changed := text != s.now.String(); changed || boot {
		s.now, s.told = state, time.Time{}
		g.switched.Store(&state)
		g.board.SetSwitches(state.Routing())
		g.tables.freeze(state.Freeze != nil)
		if changed && text == "" {
			g.log.Warn("all switches are off")
		}
	}
	g.conditions.Set(conditionSwitches, text == "", text)
	for name, on := range map[string]bool{"freeze": state.Freeze != nil, "pin": state.Pin != nil, "failover_off": state.FailoverOff != nil} {
		value := 0.0
		if on {
			value = 1
		}
		g.metrics.switches.WithLabelValues(name).Set(value)
	}
	if text != "" && time.Since(s.told) >= switchReminder {
		s.told = time.Now()
		g.log.Warn("switches are set by hand", "reason", text)
	}
}

// freeze keeps the table in force from now on, or puts the newest that was offered in
// force again.
func (t *tables) freeze(on bool) {
	t.mu.Lock()
	offered := t.offered
	t.frozen = on
	if !on {
		t.offered = nil
	}
	t.mu.Unlock()
	if !on && offered != nil {
		t.publish(offered)
	}
}

// narrow is what a frozen gateway takes of a table: intentions of it that deny, and the
// keys of peers that it has. What says no by a rule of its own holds; what merely is
// no longer there may be the mistake that the switch is for. Keys rotate, and links
// would end without the new ones.
func narrow(current, offered *route.Table) (*route.Table, bool) {
	next, changed := *current, false
	for _, rule := range offered.Intentions {
		if rule.Action == policy.Allow {
			continue
		}
		i := slices.IndexFunc(next.Intentions, func(have policy.Intention) bool { return have.Name == rule.Name })
		switch {
		case i >= 0 && sameIntention(next.Intentions[i], rule):
			continue
		case i >= 0:
			next.Intentions = slices.Clone(next.Intentions)
			next.Intentions[i] = rule
		default:
			next.Intentions = append(slices.Clip(next.Intentions), rule)
		}
		changed = true
	}
	next.Peers = slices.Clone(current.Peers)
	for i := range next.Peers {
		p := &next.Peers[i]
		k := slices.IndexFunc(offered.Peers, func(o route.Peer) bool { return o.Name == p.Name && o.ID == p.ID })
		if k >= 0 && len(offered.Peers[k].Bundle) > 0 && !slices.Equal(p.Bundle, offered.Peers[k].Bundle) {
			p.Bundle, changed = offered.Peers[k].Bundle, true
		}
	}
	if next.Format < route.FormatOf(next.Intentions, nil) {
		next.Format = route.FormatOf(next.Intentions, nil)
	}
	return &next, changed
}

func sameIntention(a, b policy.Intention) bool {
	return a.Action == b.Action && slices.Equal(a.Services, b.Services) && slices.Equal(a.Callers, b.Callers) && reflect.DeepEqual(a.HTTP, b.HTTP)
}
