package federation

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// maxEvents bounds the journal.
const maxEvents = 1000

// eventKind is the closed vocabulary of the journal.
type eventKind string

const (
	eventStarted         eventKind = "started"
	eventEpochRaised     eventKind = "epoch_raised"
	eventSourceState     eventKind = "source_state"
	eventSourceReleased  eventKind = "source_released"
	eventGatewayJoined   eventKind = "gateway_joined"
	eventGatewaySilent   eventKind = "gateway_silent"
	eventGatewayLeft     eventKind = "gateway_left"
	eventPeerAdded       eventKind = "peer_added"
	eventPeerChanged     eventKind = "peer_changed"
	eventPeerJoined      eventKind = "peer_joined"
	eventPeerRestarted   eventKind = "peer_restarted"
	eventPeerNamesake    eventKind = "peer_namesake"
	eventPeerRefused     eventKind = "peer_refused"
	eventPeerRemoved     eventKind = "peer_removed"
	eventPeerState       eventKind = "peer_state"
	eventPeerBundle      eventKind = "peer_bundle"
	eventBundleEndpoint  eventKind = "bundle_endpoint"
	eventPolicyChanged   eventKind = "policy_changed"
	eventCatalogChanged  eventKind = "catalog_changed"
	eventOfferChanged    eventKind = "offer_changed"
	eventExportRefused   eventKind = "export_refused"
	eventCatalogPartial  eventKind = "catalog_partial"
	eventExporterChanged eventKind = "exporter_changed"
	eventReloaded        eventKind = "reloaded"
	eventDrill           eventKind = "drill"
	eventTableNotPublish eventKind = "table_not_published"
	eventPriceBook       eventKind = "price_book"
	eventBudget          eventKind = "budget"
)

// cause says whose doing an event of the kind is: a closed vocabulary, too. The
// subject names which.
func (k eventKind) cause() string {
	switch k {
	case eventSourceState, eventCatalogChanged, eventCatalogPartial:
		return "source"
	case eventGatewayJoined, eventGatewaySilent, eventGatewayLeft, eventEpochRaised:
		return "gateway"
	case eventPeerState, eventPeerBundle, eventBundleEndpoint, eventOfferChanged, eventExportRefused:
		return "peer"
	case eventPolicyChanged, eventPeerAdded, eventPeerChanged, eventPeerRefused, eventPeerRemoved, eventBudget:
		return "rule"
	case eventSourceReleased, eventDrill:
		return "operator"
	case eventReloaded, eventPriceBook:
		return "config"
	default:
		return "process"
	}
}

// journal remembers the last events and logs each.
type journal struct {
	cluster catalog.ClusterName
	log     *slog.Logger
	now     func() time.Time
	feed    *feed.Feed[resource.Event]

	mu   sync.Mutex
	last uint64
}

func newJournal(cluster catalog.ClusterName, base uint64, log *slog.Logger, now func() time.Time) *journal {
	equal := func(a, b resource.Event) bool { return a == b }
	return &journal{cluster: cluster, log: log, now: now, feed: feed.New(base, equal)}
}

// note enters one event: what happened to what, and why.
func (j *journal) note(kind eventKind, subject, reason string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e := resource.Event{
		Sequence: j.last, At: j.now().UTC(), Kind: string(kind), Cause: kind.cause(), Subject: subject, Cluster: j.cluster, Reason: reason,
	}
	// Keys of one length, so that their order is that of the numbers.
	j.feed.Append(feed.Entry[resource.Event]{Key: fmt.Sprintf("%020d", j.last), Item: e}, maxEvents)
	j.log.Info("event", "status", string(kind), "path", subject, "reason", reason)
}
