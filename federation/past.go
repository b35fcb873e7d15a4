package federation

import (
	"context"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
)

// newHistory puts the history between the rulebook and the store.
func (p *plane) newHistory(ctx context.Context, base uint64) (err error) {
	p.history, err = history.New(ctx, history.Options{
		Store: p.store, Kinds: append(rulebook.Kinds(), drillKind), Now: p.opts.Now, Base: base, Log: p.log, Registerer: p.registry,
	})
	return err
}

// recordConfig enters what the config file says into the history. A store that
// takes no writes keeps nobody from serving it; it is recorded later.
func (p *plane) recordConfig(ctx context.Context) {
	rules, err := p.book.ConfigRules()
	if err == nil {
		err = p.history.SetConfig(ctx, rules)
	}
	if err != nil {
		p.log.Error("what the config file says is not in the history yet", "err", err)
	}
}

// noteChanges enters each change of policy and peers into the journal, with its
// author, until ctx ends: whichever replica it was made at.
func (p *plane) noteChanges(ctx context.Context) error {
	feed := p.history.Feed()
	_, seen := feed.All()
	for {
		changes, revision, more, err := feed.Since(seen)
		if err != nil {
			_, seen = feed.All() // a burst longer than the feed remembers
			continue
		}
		seen = revision
		for _, c := range changes {
			if c.Deleted {
				continue // dropped from the history
			}
			reason := fmt.Sprintf("%s by %s (change %d)", c.Item.Action, c.Item.Principal, c.Item.Sequence)
			if c.Item.Reason != "" {
				reason += ": " + c.Item.Reason
			}
			kind := eventPolicyChanged
			if c.Item.Kind == drillKind {
				kind = eventDrill
			}
			p.events.note(kind, c.Item.Kind+"/"+c.Item.Name, reason)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// Degraded names what an operator must look at although everything is served.
func (p *plane) Degraded() []string {
	var out []string
	if n, ok := p.store.(interface{ Notices() []string }); ok {
		for _, notice := range n.Notices() {
			out = append(out, "store: "+notice)
		}
	}
	out = append(out, p.damaged()...)
	if rule := p.history.Broken(); rule != "" {
		out = append(out, "history: the chain of records does not fit: "+rule+" (see GET /v1/history/verify)")
	}
	return out
}

// damaged names what was found damaged on disk, where what was good before serves,
// and what cannot be written now.
func (p *plane) damaged() []string {
	var out []string
	for _, s := range p.sources {
		if rule := s.runner.Status().StoreErr; rule != "" {
			out = append(out, "source "+s.Name+": its snapshots on disk: "+rule)
		}
	}
	for _, q := range p.peers.all() {
		if damage := q.kept.Damage(); damage != nil {
			out = append(out, fmt.Sprintf("peer %s: its kept state: %v", q.name, damage))
		}
	}
	out = append(out, p.pricesDamaged()...)
	if notice := p.audit.Notice(); notice != "" {
		out = append(out, "audit: "+notice+" (see GET /v1/audit/verify)")
	}
	if p.tokenDamage != "" {
		out = append(out, "api token: "+p.tokenDamage)
	}
	return out
}
