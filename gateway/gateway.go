package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/accept"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/admin"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/control"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/decisions"
	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/origin"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/switches"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
	"github.com/isthmus-mesh/isthmus/gateway/trails"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Gateway is one gateway process's data plane.
type Gateway struct {
	o       Options
	config  Config
	log     *slog.Logger
	metrics *metrics
	started time.Time

	listeners  *listeners
	slots      *accept.Slots
	requests   *accept.Slots
	conditions *admin.Conditions
	tables     *tables

	switchboard *switchboard
	switched    atomic.Pointer[switches.State]

	trails    *trails.Ring
	account   *account.Account
	decisions *decisions.Log
	callers   *route.Sightings // that the federation has not been told of
	board     *board.Board
	checker   *health.Checker
	flow      *flow.Controller
	drill     *drill.Monitor
	router    *attempt.Router
	endpoints *endpoint.Pools
	splicer   *splice.Splicer
	datagrams *datagram.Metrics
	mesh      *mesh
	secure    *workload.Dialer
	origin    *origin.Handler
	node      *tunnel.Node
	entrances []entrance
	dns       *dnsway.Way   // may be nil
	addresses *virtual.Book // with dns
	control   *control.Server
	admin     *admin.Server
	reports   *reports

	succession *succession
}

// The conditions of readiness.
const (
	conditionIdentity = "identity"
	conditionTable    = "table"
	conditionServing  = "serving"
	// Those below only inform: a gateway serves from what it has.
	conditionRenewal    = "identity_renewal"
	conditionOffer      = "table_offer"
	conditionDisk       = "table_disk"
	conditionFederation = "federation"
	conditionLinks      = "links"
	conditionMesh       = "mesh_identity"
	// It is false while an operator has set a switch at this gateway.
	conditionSwitches = "switches"
)

// New checks the options, loads the last good table from disk and binds every
// listener, so that a port that is taken is an error here and Addrs is complete.
// Nothing is served before Run, which must be called once: it is what closes the
// listeners.
func New(o Options) (*Gateway, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("gateway config: %w", err)
	}
	if o.Identity == nil || o.Cluster == "" {
		return nil, errors.New("gateway: identity and cluster are required")
	}
	g := &Gateway{o: o, config: o.Config.WithDefaults(), log: o.Log, started: time.Now()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.o.Registry == nil {
		g.o.Registry = prometheus.NewRegistry()
	}
	store, err := tablestore.Open(filepath.Join(g.config.DataDir, "tables"), o.Cluster)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if g.listeners, err = bind(g.config, o); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if err := g.build(store); err != nil {
		g.listeners.close()
		if o.Estate != nil {
			o.Estate.Close()
		}
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// build makes the parts, from those that need nothing to those that need all.
func (g *Gateway) build(store *tablestore.Store) (err error) {
	reg := g.o.Registry
	g.conditions = admin.NewConditions(
		[]string{conditionIdentity, conditionTable, conditionServing},
		[]string{conditionRenewal, conditionOffer, conditionDisk, conditionFederation, conditionLinks, conditionMesh, conditionSwitches},
	)
	g.slots = accept.NewSlots(g.connectionLimit())
	g.requests = accept.NewSlots(g.config.Limits.Streams)
	g.splicer = splice.New(splice.Options{})
	if g.metrics, err = newMetrics(reg, g); err != nil {
		return err
	}
	if g.trails, err = trails.New(trails.Options{
		Cluster: g.o.Cluster, Gateway: g.config.Name, Share: *g.config.Explain.Share, Slow: g.config.Explain.Slow,
		Records: g.config.Explain.Records, Random: rand.Uint64, Registerer: reg,
	}); err != nil {
		return err
	}
	if g.account, err = account.New(account.Options{Access: g.config.AccessLog, Ended: g.trails.Ended, Log: g.log, Registerer: reg}); err != nil {
		return err
	}
	if g.decisions, err = decisions.New(decisions.Options{Allowed: g.config.DecisionLog.Allowed, Log: g.log}); err != nil {
		return err
	}
	g.callers = route.NewSightings(callersKept, route.MaxSightings)
	if g.board, err = board.New(board.Options{
		Cluster: g.o.Cluster, Self: g.o.Locality, Links: g.boardLinks, Ramp: route.RampOptions(g.config.FailBack),
		Learned: func(service catalog.ServiceName) (int, bool) { return g.flow.LearnedLimit(service) },
		Random:  rand.Uint64, Log: g.log, Registerer: reg,
	}); err != nil {
		return err
	}
	if g.mesh, err = newMesh(g); err != nil {
		return err
	}
	g.secure = workload.NewDialer(g.mesh.identities(g.o.Identity), g.mesh.live)
	if g.checker, err = health.New(health.Options{
		Dial: g.o.Dial, Secure: g.secure.Secure, Random: rand.Uint64, Log: g.log, Registerer: reg,
		Changed: func(k route.EndpointKey, s health.State) {
			g.board.SetHealth(k, s)
			g.reports.wake() // peers should hear of it before they find out
		},
	}); err != nil {
		return err
	}
	if g.flow, err = flow.New(flow.Options{Random: rand.Uint64, Registerer: reg, Log: g.log}); err != nil {
		return err
	}
	if g.drill, err = drill.New(drill.Options{
		Gateway: g.config.Name, StartedAt: g.started, Drills: g.board.Live().Drills, Ended: func() { g.reports.soon() },
		Log: g.log, Registerer: reg,
	}); err != nil {
		return err
	}
	if g.router, err = attempt.New(attempt.Options{
		Flow: g.flow, Drill: g.drill, Board: g.board, Reachable: g.reachable, Judged: g.judged, Random: rand.Uint64, Log: g.log, Registerer: reg,
	}); err != nil {
		return err
	}
	g.endpoints = endpoint.New(endpoint.Options{Dial: g.o.Dial, Secure: g.secure.Secure, Own: g.listeners.own(), Virtual: g.config.virtualRange()})
	if g.datagrams, err = datagram.NewMetrics(reg); err != nil {
		return err
	}
	peers := fair.NewGate(fair.Options{Limit: g.config.Limits.Streams})
	if g.origin, err = origin.New(origin.Options{
		Peers:   peers,
		Cluster: g.o.Cluster, Identity: g.ownID, Router: g.router, Endpoints: g.endpoints, Splicer: g.splicer,
		Flows:   &datagram.Carrier{Endpoints: g.endpoints, Metrics: g.datagrams},
		Account: g.account, Federation: g.federationAddress, Joining: g.joining, Report: g.board.TakeReport, Load: g.board.TakeLoad, Dial: g.o.Dial, Log: g.log,
	}); err != nil {
		return err
	}
	key, err := resetKey(g.config.DataDir, g.log)
	if err != nil {
		return err
	}
	if g.node, err = tunnel.New(tunnel.Options{
		PacketConn: g.listeners.link, TLS: g.laneOptions(), Slot: g.o.slot(),
		Identity: g.o.Identity, Cluster: string(g.o.Cluster), Gateway: g.config.Name,
		Handler: g.origin, Join: g.origin, ResetKey: key, MaxStreams: g.config.Limits.Streams, Resolve: g.o.Resolve, Log: g.log, Registerer: reg,
	}); err != nil {
		return err
	}
	g.tables = newTables(g, store)
	g.reports = newReports(g)
	g.succession = newSuccession()
	if err := g.buildWays(); err != nil {
		return err
	}
	g.switchboard = &switchboard{g: g}
	g.switchboard.boot()
	g.tables.boot()
	return nil
}

// laneOptions are the TLS lane's; nil where there is none.
func (g *Gateway) laneOptions() *tunnel.TLSOptions {
	if g.config.TLSLane == TLSLaneOff || g.o.PacketConn != nil {
		return nil
	}
	return &tunnel.TLSOptions{Listener: g.listeners.lane}
}

// connectionLimit is what the configuration says, but at most half of the file
// descriptors: the rest is for endpoints, links and files.
func (g *Gateway) connectionLimit() int {
	limit := g.config.Limits.Connections
	if n, ok := accept.Descriptors(); ok && n/2 < limit {
		limit = max(1, n/2)
	}
	return limit
}

// Addrs returns what the gateway listens on.
func (g *Gateway) Addrs() Addrs { return g.listeners.addrs }

// Ready returns a channel that is closed when the gateway has an identity and a
// route table and its listeners are served.
func (g *Gateway) Ready() <-chan struct{} { return g.conditions.Ready() }

func (g *Gateway) ownID() string {
	id := g.o.Identity.ID()
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// federationID is the own federation's ID, from the own SVID: a gateway's is
// <cluster id>/gateway/<name>. It is zero while there is none, or a wrong one.
func (g *Gateway) federationID() spiffeid.ID {
	cluster, ok := strings.CutSuffix(g.ownID(), "/gateway/"+g.config.Name)
	if !ok {
		return spiffeid.ID{}
	}
	id, err := spiffeid.FromString(cluster)
	if err != nil {
		return spiffeid.ID{}
	}
	return id
}

// joining reports whether the federation has invited a cluster.
func (g *Gateway) joining() bool {
	plan := g.board.Plan()
	return plan != nil && plan.Table().Joining
}

func (g *Gateway) federationAddress() string {
	if plan := g.board.Plan(); plan != nil {
		return plan.Table().Federation
	}
	return ""
}
