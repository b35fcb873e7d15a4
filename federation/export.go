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
	if !p.loop.gate.Roster(now, names) {
		return false
	}
	if len(names) > 0 && !slices.Equal(names, p.loop.expected) {
		p.saveNames(ctx, rosterKey(), names)
		p.loop.expected = names
	}
	return true
}

// rosterKey holds the names of the gateways that were alive last.
func rosterKey() store.Key { return store.Key{Kind: stateKind, Name: "gateways"} }

// rememberedKey holds the names of the peers of whom something is known: what they
// said is kept beside the store, and may be lost without it.
func rememberedKey() store.Key { return store.Key{Kind: stateKind, Name: "peers"} }

// rememberPeers keeps the names of the peers whose catalogs are in the table.
func (p *plane) rememberPeers(ctx context.Context) {
	var names []string
	for _, q := range p.peers.all() {
		if q.importer.Snapshot() != nil {
			names = append(names, string(q.name))
		}
	}
	if slices.Sort(names); !slices.Equal(names, p.loop.remembered) {
		p.saveNames(ctx, rememberedKey(), names)
		p.loop.remembered = names
	}
}

func (p *plane) loadNames(ctx context.Context, key store.Key) []string {
	item, err := p.store.Get(ctx, key)
	if err != nil {
		return nil // none yet
	}
	var names []string
	if err := json.Unmarshal(item.Value, &names); err != nil {
		p.log.Warn("names of before are not readable", "path", key.Name, "err", err)
	}
	return names
}

func (p *plane) saveNames(ctx context.Context, key store.Key, names []string) {
	value, err := json.Marshal(names)
	if err == nil {
		_, err = p.store.Put(ctx, key, value, store.Any)
	}
	if err != nil && !errors.Is(err, store.ErrNotWritable) { // said by the store already
		p.log.Warn("names are not kept", "path", key.Name, "err", err)
	}
}
