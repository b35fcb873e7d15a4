package federation

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// maxNamed bounds the services that one event of the catalog names.
const maxNamed = 5

// noteCatalogs enters what sources have changed into the journal, at most one
// event for each in a look: what changed in between is summed up.
func (p *plane) noteCatalogs() {
	for _, s := range p.sources {
		now := s.snapshot.Load()
		if now == s.noted {
			continue
		}
		if text := summary(s.noted, now); text != "" {
			p.events.note(eventCatalogChanged, s.Name, text)
		}
		s.noted = now
	}
}

// notePeerCatalogs does the same for what peers offer.
func (p *plane) notePeerCatalogs() {
	for _, q := range p.peers.all() {
		now := q.importer.Snapshot().Services()
		if len(now) == len(q.offered) && (len(now) == 0 || &now[0] == &q.offered[0]) {
			continue
		}
		if came, went := offerChanges(q.offered, now); len(came)+len(went) > 0 {
			p.events.note(eventOfferChanged, string(q.name), fmt.Sprintf("offers %d services: %s", len(now), joinParts(
				named("new", came), named("gone", went))))
		}
		q.offered = now
	}
}

// offerChanges walks two lists that are sorted by name.
func offerChanges(before, now []*catalog.Summary) (came, went []string) {
	for len(before) > 0 || len(now) > 0 {
		switch {
		case len(before) > 0 && len(now) > 0 && before[0] == now[0]:
			before, now = before[1:], now[1:]
		case len(before) == 0 || len(now) > 0 && now[0].Service.Compare(before[0].Service) < 0:
			came, now = append(came, now[0].Service.String()), now[1:]
		case len(now) == 0 || now[0].Service.Compare(before[0].Service) > 0:
			went, before = append(went, before[0].Service.String()), before[1:]
		default:
			before, now = before[1:], now[1:]
		}
	}
	return came, went
}

// summary says what leads from one snapshot to the next.
func summary(before, now *catalog.Snapshot) string {
	delta := catalog.Diff(before, now)
	if delta.IsEmpty() {
		return ""
	}
	var came, changed, went []string
	for _, s := range delta.Upserts {
		if before == nil || before.Get(s.Name) == nil {
			came = append(came, s.Name.String())
		} else {
			changed = append(changed, s.Name.String())
		}
	}
	for _, name := range delta.Removes {
		went = append(went, name.String())
	}
	had := 0
	if before != nil {
		had = before.EndpointCount()
	}
	return fmt.Sprintf("endpoints %d -> %d: %s", had, now.EndpointCount(), joinParts(
		named("new", came), named("changed", changed), named("gone", went)))
}

// named lists the first names of what happened to several services.
func named(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	shown := strings.Join(names[:min(len(names), maxNamed)], " ")
	if more := len(names) - maxNamed; more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	return what + " " + shown
}

func joinParts(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "; ")
}
