package federation

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/audit"
	"github.com/isthmus-mesh/isthmus/federation/budget"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/federation/store/consulkv"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// plane is a federation that runs: everything between its doors.
type plane struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	random   func() uint64
	started  time.Time

	id      spiffeid.ID
	store   store.Store
	history *history.Log
	audit   *audit.Log
	epochs  counter
	// tokenDamage is what was found of the API's token at the start.
	tokenDamage string
	book        *rulebook.Book
	events      *journal
	lists       api.Lists
	metrics     *metrics
	importers   *exchange.ImporterMetrics
	bundles     *bundleendpoint.Metrics

	mesh      *mesh.Server
	publisher *bundleendpoint.Server // nil where no bundle endpoint is configured
	exporter  *exchange.Exporter
	gateways  *gateways
	shares    budget.Allocator
	peers     *peers
	peering   *peering.Service
	sources   []*source
	sightings *route.Sightings
	address   string // of the mesh listener, as gateways are told

	// Where the store is shared with other replicas.
	shared   *consulkv.Store
	replicas *consulkv.Replicas
	speaker  atomic.Pointer[speaker] // who speaks to peers

	inbox  inbox
	tables tableHistory
	// The loop's own: nobody else touches it.
	loop loopState

	// prices are guarded by pricing where Reload changes them.
	pricing sync.Mutex
	prices  prices
	drills  drills

	// demand is what own callers asked for of late.
	demand demand

	// horizon is what dry runs start from; foreseeing is held by the one at work.
	horizon    atomic.Pointer[horizon]
	foreseeing chan struct{}

	listing   sync.Mutex // serialises who replaces the list of peers
	mu        sync.Mutex
	namesakes map[spiffeid.ID]time.Time      // when each was told of last
	refusals  map[catalog.ClusterName]string // why a peer's export is not what it should be
}

// newPlane opens what is on disk and wires the parts; nothing runs yet. The
// caller closes it.
func newPlane(ctx context.Context, opts Options, log *slog.Logger, registry *prometheus.Registry) (_ *plane, err error) {
	p := &plane{
		opts: opts, log: log, registry: registry, random: rand.Uint64, started: opts.Now().UTC(),
		id: opts.Identity.ID(), gateways: newGateways(), peers: newPeers(),
		foreseeing: make(chan struct{}, 1),
		refusals:   make(map[catalog.ClusterName]string),
		sightings:  route.NewSightings(callersWindow, maxCallers),
	}
	p.drills.p = p
	p.inbox.wake = make(chan struct{}, 1)
	p.speaker.Store(&speaker{})
	if err = p.openStore(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = p.store.Close()
			if p.audit != nil {
				_ = p.audit.Close()
			}
		}
	}()
	if p.audit, err = audit.Open(audit.Options{Dir: p.path("audit"), Now: opts.Now, Log: log, Registerer: registry}); err != nil {
		return nil, err
	}
	p.epochs = counter{store: p.store, name: epochName}
	epoch, err := p.epochs.raise(ctx, 0)
	if err != nil {
		if epoch == 0 {
			return nil, fmt.Errorf("epoch: %w", err)
		}
		// Gateways find out by the order of tables, and have the epoch raised.
		epoch = p.apart(epoch, err)
		log.Error("epoch is not kept", "epoch", epoch, "err", err)
	}
	if epoch > maxEpoch {
		return nil, fmt.Errorf("epoch: value %d: at most %d", epoch, maxEpoch)
	}
	p.loop.epoch = epoch
	base := epoch << 32
	p.events = newJournal(opts.Cluster, base, log, opts.Now)
	if err := p.newHistory(ctx, base); err != nil {
		return nil, err
	}
	p.book, err = rulebook.New(ctx, rulebook.Options{
		Store: p.history, Config: opts.Config.Policy(), ConfigPeers: opts.Config.Peers, Base: base, Log: log,
		Admit: p.admitPeer, PeersChanged: p.followBook,
		Changed: func() { p.touch(catalogChanged) },
	})
	if err != nil {
		return nil, err
	}
	p.lists = newLists(base, p.events)
	if p.metrics, err = newMetrics(registry); err != nil {
		return nil, err
	}
	if p.importers, err = exchange.NewImporterMetrics(registry); err != nil {
		return nil, err
	}
	if p.bundles, err = bundleendpoint.NewMetrics(registry); err != nil {
		return nil, err
	}
	if err := p.openPrices(); err != nil {
		return nil, err
	}
	if err := p.newSources(); err != nil {
		return nil, err
	}
	if err := p.newPeering(ctx); err != nil {
		return nil, err
	}
	return p, p.newDoors()
}

// newDoors builds the bundle endpoint, the mesh server and the exporter behind
// it.
func (p *plane) newDoors() (err error) {
	if c := p.opts.Config.BundleEndpoint; c != (BundleServer{}) {
		p.publisher, err = bundleendpoint.NewServer(bundleendpoint.ServerOptions{
			Config: c.config(), Identity: p.opts.Identity, Log: p.log, Registerer: p.registry, Now: p.opts.Now,
		})
		if err != nil {
			return err
		}
	}
	p.exporter, err = exchange.NewExporter(exchange.ExporterOptions{
		Cluster: p.opts.Cluster,
		Peer:    peerFrom,
		LoadEpoch: func(peer catalog.ClusterName) (uint64, error) {
			n, _, err := p.exchangeEpoch(peer).load(context.Background())
			return n, err
		},
		SaveEpoch: p.saveExchangeEpoch,
		Fenced:    p.shared != nil,
		Explain:   p.explainForPeer,
		Log:       p.log, Registerer: p.registry,
	})
	if err != nil {
		return err
	}
	p.mesh, err = mesh.New(mesh.Options{
		Identity: p.opts.Identity, Cluster: p.id,
		Report: p.takeReport, Shares: p.shareBudgets, Ahead: p.raiseEpoch,
		Namesake: p.noteNamesake, JoinOpen: p.peering.Open, Join: p.peering.ServeConn,
		Exchange: func(peer catalog.ClusterName) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p.exporter.ServeHTTP(w, r.WithContext(withPeer(r.Context(), peer)))
			})
		},
		Log: p.log, Registerer: p.registry,
	})
	return err
}

func (p *plane) exchangeEpoch(peer catalog.ClusterName) counter {
	return counter{store: p.store, name: "exchange-" + string(peer)}
}

type peerKey struct{}

func withPeer(ctx context.Context, peer catalog.ClusterName) context.Context {
	return context.WithValue(ctx, peerKey{}, peer)
}

// peerFrom is who the mesh listener has authenticated.
func peerFrom(r *http.Request) (catalog.ClusterName, error) {
	peer, ok := r.Context().Value(peerKey{}).(catalog.ClusterName)
	if !ok {
		return "", fmt.Errorf("request of nobody")
	}
	return peer, nil
}

func (p *plane) now() time.Time { return p.opts.Now() }

func (p *plane) path(name string) string { return filepath.Join(p.opts.Config.DataDir, name) }

// Version describes the process.
func (p *plane) Version() resource.Version {
	v := resource.Version{
		API: "v1", Build: p.opts.Build, Cluster: p.opts.Cluster, ID: p.id.String(), StartedAt: p.started,
		Degraded: p.Degraded(),
	}
	if t := p.tables.current(); t != nil {
		v.Epoch, v.TableVersion = t.Head().Epoch, t.Head().Version
	}
	return v
}
