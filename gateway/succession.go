package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/estate"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/internal/handover"
)

const (
	// readyPoll is how often a successor looks whether it is ready.
	readyPoll = 50 * time.Millisecond
	// settleListeners is how long listeners that were inherited may wait for their
	// way: those of virtual addresses are opened after the start.
	settleListeners = 10 * time.Second
	// tellInterval is how often a process that has a successor tells what is left.
	tellInterval = time.Second
)

// Why there is no upgrade in place.
var (
	errUpgrading = errors.New("an upgrade is under way")
	errSucceeded = errors.New("this process has a successor, which serves: ask that one")
	errStopping  = errors.New("the gateway stops")
)

// succession is whether this process has a successor, or gets one.
type succession struct {
	passed chan struct{} // closed when a successor serves
	ended  chan struct{} // closed when this process stops, or has given over
	serves chan struct{} // closed when this process serves

	mu   sync.Mutex // held during an upgrade
	once sync.Once
}

func newSuccession() *succession {
	return &succession{passed: make(chan struct{}), ended: make(chan struct{}), serves: make(chan struct{})}
}

// done reports whether a successor serves.
func (s *succession) done() bool {
	select {
	case <-s.passed:
		return true
	default:
		return false
	}
}

// end lets no upgrade begin, and waits for the end of one that is under way.
func (s *succession) end() {
	s.once.Do(func() { close(s.ended) })
	s.mu.Lock() // an upgrade ends by ended
	defer s.mu.Unlock()
}

func (o Options) slot() generation.Slot {
	if o.Estate == nil {
		return 0
	}
	return o.Estate.Slot()
}

// Upgrade starts a process that takes this one's place, and returns when that one serves
// and this one leaves: its Run then finishes what is in progress, at most for
// DrainTimeout, and returns. Until then nothing has changed: the error says why, and this
// process serves on.
func (g *Gateway) Upgrade(ctx context.Context, c handover.Command) (pid int, err error) {
	e := g.o.Estate
	switch {
	case e == nil:
		return 0, handover.ErrUnsupported
	case !g.succession.mu.TryLock():
		return 0, errUpgrading
	}
	defer g.succession.mu.Unlock()
	if g.succession.done() {
		return 0, errSucceeded
	}
	select {
	case <-g.succession.ended:
		return 0, errStopping
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-g.succession.ended:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	if pid, err = g.bequeath(ctx, e, c); err != nil {
		return 0, err
	}
	close(g.succession.passed)
	return pid, nil
}

// bequeath takes an upgrade as far as the successor's serving.
func (g *Gateway) bequeath(ctx context.Context, e *estate.Estate, c handover.Command) (pid int, err error) {
	began := time.Now()
	offer, err := e.Offer(g.linkedClusters())
	if err != nil {
		return 0, err
	}
	defer offer.Close()
	s, err := handover.Start(c, offer.Files, offer.State)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("the successor cannot be started: %w", err), e.TakeBack(offer))
	}
	g.log.Info("upgrade: the successor has started", "pid", s.PID(), "path", c.Path)
	defer func() {
		if err != nil {
			s.Kill()
			err = errors.Join(fmt.Errorf("the successor (pid %d): %w", s.PID(), err), e.TakeBack(offer))
		}
	}()
	if err := s.Ready(ctx); err != nil {
		return 0, fmt.Errorf("is not ready: %w", err)
	}
	if err := e.PassOn(offer); err != nil {
		return 0, err
	}
	if err := s.Go(ctx); err != nil {
		return 0, fmt.Errorf("does not serve: %w", err)
	}
	s.Release()
	g.log.Info("upgrade: the successor serves", "pid", s.PID(), "duration", time.Since(began))
	return s.PID(), nil
}

// linkedClusters are those to which there is a link: a successor without one to each of
// them would be a loss.
func (g *Gateway) linkedClusters() []string {
	var linked []string
	for _, l := range g.node.Links() {
		if l.State == tunnel.StateUp && !slices.Contains(linked, l.Cluster) {
			linked = append(linked, l.Cluster)
		}
	}
	return linked
}

// takeOver waits until this process can take its predecessor's place, and for the word
// to do so. Without a predecessor there is nothing to wait for.
func (g *Gateway) takeOver(ctx context.Context, failure <-chan error) error {
	e := g.o.Estate
	if e == nil || !e.Inherited() {
		return nil
	}
	for lacks, said := g.lacks(), ""; lacks != ""; lacks = g.lacks() {
		if lacks != said {
			e.Handover().Waiting(lacks)
			said = lacks
		}
		select {
		case err := <-failure:
			return err
		default:
		}
		if !pause(ctx, readyPoll) {
			return nil
		}
	}
	if err := e.Handover().Ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return e.TakeOver()
}

// lacks is what a successor still has to wait for.
func (g *Gateway) lacks() string {
	list, _ := g.conditions.List()
	for _, c := range list {
		if c.Required && !c.OK && c.Name != conditionServing {
			return c.Name + ": " + c.Reason
		}
	}
	have := g.linkedClusters()
	for _, want := range g.o.Estate.Linked() {
		if plan := g.board.Plan(); plan != nil && g.peers(want) && !slices.Contains(have, want) {
			return "link to " + want
		}
	}
	return ""
}

// peers reports whether a cluster is a peer of the table in force.
func (g *Gateway) peers(cluster string) bool {
	plan := g.board.Plan()
	if plan == nil {
		return false
	}
	for i := range plan.Table().Peers {
		if string(plan.Table().Peers[i].Name) == cluster {
			return true
		}
	}
	return false
}

// Serves returns a channel that is closed when the listeners are served: with a
// predecessor, when this process has taken over.
func (g *Gateway) Serves() <-chan struct{} { return g.succession.serves }

// tookOver tells the predecessor that it may leave.
func (g *Gateway) tookOver() {
	close(g.succession.serves)
	e := g.o.Estate
	if e == nil || !e.Inherited() {
		return
	}
	e.Handover().Serving()
	g.log.Info("upgrade: this process has taken over", "count", e.Generation())
	time.AfterFunc(settleListeners, func() {
		if n := e.Handover().Close(); n > 0 {
			g.log.Info("upgrade: listeners of before are of no more use", "count", n)
		}
	})
}

// leave ends this process's part when a successor serves: callers' new connections and
// peers' new links are that one's, and what is in progress here goes on until it ends,
// or until DrainTimeout.
func (g *Gateway) leave(base context.Context, ways, talk *group) {
	ctx, cancel := context.WithTimeoutCause(base, g.config.DrainTimeout, errors.New("drain timeout"))
	defer cancel()
	g.log.Info("gateway leaves to its successor", "count", g.node.InProgress(), "duration", g.config.DrainTimeout)
	g.drill.Stop()
	for _, e := range g.entrances {
		e.way.StopAccepting()
	}
	telling, told := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ok := true; ok; ok = pause(telling, tellInterval) {
			g.o.Estate.Tell(estate.Fare{Streams: g.node.InProgress(), Connections: int64(g.slots.Used())})
		}
	})
	pause(ctx, settleTime)
	g.node.Leave(ctx)
	g.finish(ctx, ways, talk)
	told()
	wg.Wait()
}

// awaitPredecessors keeps a process that stops, and is the main one, until those before
// it have finished, too: a service manager ends what is left behind it.
func (g *Gateway) awaitPredecessors(ctx context.Context) {
	for n := len(g.predecessors()); n > 0; n = len(g.predecessors()) {
		if !pause(ctx, readyPoll) {
			g.log.Warn("processes of before still finish their streams", "count", n)
			return
		}
	}
}

// predecessors are the processes before this one that still finish what they carry.
func (g *Gateway) predecessors() []estate.Predecessor {
	if g.o.Estate == nil {
		return nil
	}
	return g.o.Estate.Predecessors()
}
