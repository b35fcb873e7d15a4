package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// maxConflictsTold bounds the conflicts that one peer is shown.
const maxConflictsTold = 100

// export sets what each peer is told. A peer is told nothing before the own
// state is complete: it keeps what it has, which is better than a part.
func (p *plane) export(ctx context.Context, c change) {
	now := p.now()
	roster := p.gateways.rosterNow(now)
	if !p.knowRoster(ctx, now) {
		return
	}
	if c&evidenceChanged != 0 || p.loop.readiness == nil {
		p.readReadiness(now)
	}
	p.loop.exports.Update(p.loop.view, p.loop.readiness, p.loop.index)
	conflicts := p.loop.census.told()
	var bundle json.RawMessage
	states := make(map[catalog.ClusterName]exchange.State)
	all := p.peers.all()
	for _, q := range all {
		name := q.name
		state := exchange.State{Services: p.loop.exports.For(name), Gateways: roster, Conflicts: conflicts[name], Labels: p.opts.Labels}
		if q.foreign {
			if bundle == nil {
				bundle = p.ownBundle()
			}
			state.Bundle = bundle
		}
		states[name] = state
	}
	errs := p.exporter.SetAll(states)
	for _, q := range all {
		p.noteRefusal(q, errs[q.name])
	}
}

// readReadiness takes what fresh reports say of the own endpoints, if it is news.
func (p *plane) readReadiness(now time.Time) {
	var reports []*route.Report
	for _, h := range p.gateways.fresh(now) {
		reports = append(reports, h.report)
	}
	if r := tables.NewReadiness(reports); p.loop.readiness == nil || !r.Equal(p.loop.readiness) {
		p.loop.readiness = r
	}
}

func (p *plane) ownBundle() json.RawMessage {
	document, err := p.opts.Identity.TrustBundle()
	if err != nil {
		p.log.Error("own bundle is not told to peers", "err", err)
		return nil
	}
	if !bytes.Equal(document, p.loop.bundle) {
		p.loop.bundle = document // else one that comes again is the same
	}
	return p.loop.bundle
}

// noteRefusal says once that a peer goes on being told what it was.
func (p *plane) noteRefusal(q *peer, err error) {
	name, text := q.name, ""
	if err != nil {
		text = err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusals[name] == text {
		return
	}
	if p.refusals[name] = text; text != "" {
		p.log.Error("peer is told what it was told before", "peer", name, "err", err)
		p.events.note(eventExportRefused, string(name), text)
	}
}

// knowRoster reports whether the gateways that there were before this start have
// reported, or had their time. Until then the roster would tell peers that some
// are gone.
func (p *plane) knowRoster(ctx context.Context, now time.Time) bool {
	fresh := p.gateways.fresh(now)
	names := make([]string, len(fresh))
	for i, h := range fresh {
		names[i] = h.report.Gateway.Name
	}
	if !p.loop.rosterKnown {
		missing := slices.ContainsFunc(p.loop.expected, func(name string) bool { return !slices.Contains(names, name) })
		if missing && now.Sub(p.loop.served) < rosterGrace {
			return false
		}
		if len(names) == 0 && len(p.loop.expected) == 0 && now.Sub(p.loop.served) < rosterGrace {
			return false
		}
		p.loop.rosterKnown = true
	}
	if len(names) > 0 && !slices.Equal(names, p.loop.expected) {
		p.saveExpected(ctx, names)
		p.loop.expected = names
	}
	return true
}

// rosterKey holds the names of the gateways that were alive last.
func rosterKey() store.Key { return store.Key{Kind: stateKind, Name: "gateways"} }

func (p *plane) loadExpected(ctx context.Context) []string {
	item, err := p.store.Get(ctx, rosterKey())
	if err != nil {
		return nil // none yet
	}
	var names []string
	if err := json.Unmarshal(item.Value, &names); err != nil {
		p.log.Warn("names of the last gateways are not readable", "err", err)
	}
	return names
}

func (p *plane) saveExpected(ctx context.Context, names []string) {
	value, err := json.Marshal(names)
	if err == nil {
		_, err = p.store.Put(ctx, rosterKey(), value, store.Any)
	}
	if err != nil && !errors.Is(err, store.ErrNotWritable) { // said by the store already
		p.log.Warn("names of the gateways are not kept", "err", err)
	}
}
