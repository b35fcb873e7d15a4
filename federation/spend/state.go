package spend

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// stateVersion is that of a ledger's JSON.
const stateVersion = 1

type state struct {
	Version  int                           `json:"version"`
	Began    time.Time                     `json:"began"`
	Forgot   time.Time                     `json:"forgot,omitzero"`
	Month    time.Time                     `json:"month"`
	Rows     []*row                        `json:"rows,omitempty"`
	Gateways map[string]gatewayState       `json:"gateways,omitempty"`
	States   map[catalog.ServiceName]State `json:"states,omitempty"`
}

type gatewayState struct {
	gateway
	List []count `json:"counts,omitempty"`
}

type count struct {
	Path
	Sum
}

// Save writes the ledger, if it has changed since it was saved last; nil is no change.
func (l *Ledger) Save() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty {
		return nil, nil
	}
	s := state{Version: stateVersion, Began: l.began, Forgot: l.forgot, Month: l.month, States: l.states, Gateways: make(map[string]gatewayState, len(l.gateways))}
	for _, p := range slices.SortedFunc(maps.Keys(l.rows), Path.compare) {
		s.Rows = append(s.Rows, l.rows[p])
	}
	for name, g := range l.gateways {
		kept := gatewayState{gateway: *g}
		for _, p := range slices.SortedFunc(maps.Keys(g.Counts), Path.compare) {
			kept.List = append(kept.List, count{p, g.Counts[p]})
		}
		s.Gateways[name] = kept
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("spend: %w", err)
	}
	l.dirty = false
	return data, nil
}

// Unsaved says that what Save returned was not kept.
func (l *Ledger) Unsaved() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true
}

// Load replaces the ledger by one that Save wrote.
func (l *Ledger) Load(data []byte) error {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("spend: %w", err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("spend: version %d, this build reads %d", s.Version, stateVersion)
	}
	if s.Began.IsZero() || !s.Month.Equal(monthOf(s.Month)) || len(s.Rows) > maxRows || len(s.Gateways) > maxGateways {
		return errors.New("spend: is not what a ledger writes")
	}
	rows := make(map[Path]*row, len(s.Rows))
	for _, r := range s.Rows {
		if r == nil || !amount(r.Spent) || !amount(r.Faded) || !amount(r.LastMonth) {
			return errors.New("spend: has a row that is no account")
		}
		rows[r.Path] = r
	}
	gateways := make(map[string]*gateway, len(s.Gateways))
	for name, kept := range s.Gateways {
		g := kept.gateway
		g.Counts = make(map[Path]Sum, len(kept.List))
		for _, c := range kept.List {
			g.Counts[c.Path] = c.Sum
		}
		gateways[name] = &g
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.forgot, l.month, l.rows, l.gateways, l.states, l.dirty = s.Began, s.Forgot, s.Month, rows, gateways, s.States, false
	return nil
}

func amount(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }
