package consulkv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// ErrNotHeld means that the write was to be made by the exporter, and this
// replica is not the exporter.
var ErrNotHeld = errors.New("the lease is held by another replica, or by none")

// Member is one replica as it describes itself.
type Member struct {
	// Name is unique among the replicas.
	Name string `json:"name"`
	// Address is the host:port of its mesh listener.
	Address   string    `json:"address"`
	Build     string    `json:"build,omitempty"`
	StartedAt time.Time `json:"started_at"`
}

// View is what is known of the replicas.
type View struct {
	// Members are those whose sessions live, by name.
	Members []Member
	// Exporter is who holds the lease; zero: nobody, for the moment.
	Exporter Member
	// Held says that it is this replica; Since when it became so.
	Held bool
	// Fence grows with every holder.
	Fence uint64
	// Err is why Consul does not answer; what is known is what it said last.
	Err error
}

// ReplicasOptions configure Replicas.
type ReplicasOptions struct {
	// Self is this replica.
	Self Member
	// Changed is told of every other View, by Run; it must not block.
	Changed func(View)
	// Log receives the log; nil discards it.
	Log *slog.Logger
}

// Replicas keeps this process among the replicas of the store, and one of them
// the exporter. While Consul is out of reach everybody stays what he was: nobody
// else can take the lease either, and whoever has lost it meanwhile finds out
// when it comes back. Until then the epochs fence him.
type Replicas struct {
	store   *Store
	opts    ReplicasOptions
	log     *slog.Logger
	tending chan struct{} // a token: look after session and lease now

	mu      sync.Mutex
	session string
	view    View
}

// Replicas makes this process one of the store's replicas once Run runs.
func (s *Store) Replicas(opts ReplicasOptions) *Replicas {
	r := &Replicas{store: s, opts: opts, log: opts.Log, tending: make(chan struct{}, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.opts.Changed == nil {
		r.opts.Changed = func(View) {}
	}
	return r
}

// View is what is known now.
func (r *Replicas) View() View {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.view
	v.Members = slices.Clone(v.Members)
	return v
}

func (r *Replicas) folder() string      { return r.store.config.Prefix + "/replicas/" }
func (r *Replicas) memberKey() string   { return r.folder() + "members/" + r.opts.Self.Name }
func (r *Replicas) exporterKey() string { return r.folder() + "exporter" }

// Apply writes as the exporter: Consul makes the transaction where the lease is
// held by this replica, and ErrNotHeld is the answer where not. An exporter that
// has lost the lease without knowing can write nothing.
func (r *Replicas) Apply(ctx context.Context, writes ...store.Write) (uint64, error) {
	r.mu.Lock()
	session, held := r.session, r.view.Held
	r.mu.Unlock()
	if !held || session == "" {
		return 0, ErrNotHeld
	}
	return r.store.apply(ctx, []op{{Verb: "check-session", Key: r.exporterKey(), Session: session}}, writes)
}

// Run keeps session, presence and lease until ctx ends, and then lets go of them
// so that another replica takes over at once.
func (r *Replicas) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.watch(ctx) })
	every, away := r.store.config.SessionTTL/3, false
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.tending:
		case <-ctx.Done():
			wg.Wait()
			r.leave(context.WithoutCancel(ctx))
			return nil
		}
		wait := every
		if err := r.tend(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if away { // once is enough, it tries every second
				level = slog.LevelDebug
			}
			away = true
			r.log.Log(ctx, level, "replica does not reach its session", "err", err)
			r.update(func(v *View) { v.Err = err })
			wait = min(every, time.Second)
		} else if err == nil && away {
			away = false
			r.log.Info("replica reaches its session again")
		}
		if r.View().Exporter.Name == "" {
			wait = min(wait, lockDelay/2)
		}
		tick.Reset(wait/2 + rand.N(wait/2+1))
	}
}

// tend renews what is there and takes what is free.
func (r *Replicas) tend(ctx context.Context) error {
	c := r.store.client
	r.mu.Lock()
	session := r.session
	r.mu.Unlock()
	if session != "" {
		err := c.renewSession(ctx, session)
		if errors.Is(err, errNoSession) {
			r.log.Warn("session has ended, another begins")
			r.lose()
			session = ""
		} else if err != nil {
			return err
		}
	}
	self, err := json.Marshal(r.opts.Self)
	if err != nil {
		return err
	}
	if session == "" {
		if session, err = c.createSession(ctx, "isthmus "+r.opts.Self.Name); err != nil {
			return err
		}
		r.mu.Lock()
		r.session = session
		r.mu.Unlock()
	}
	// The name may be held by the session of this replica's life before, for as
	// long as that lasts.
	if err := c.hold(ctx, "acquire", r.memberKey(), session, self); err != nil {
		return err
	}
	if r.View().Exporter.Name != "" {
		return nil
	}
	return c.hold(ctx, "acquire", r.exporterKey(), session, self)
}

func (r *Replicas) lose() {
	r.mu.Lock()
	r.session = ""
	r.mu.Unlock()
	r.update(func(v *View) { v.Held = false })
}

// leave lets go of lease and presence; what fails ends with the session's time.
func (r *Replicas) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.store.config.RequestTimeout)
	defer cancel()
	r.mu.Lock()
	session, held := r.session, r.view.Held
	r.mu.Unlock()
	if session == "" {
		return
	}
	var err error
	if held {
		err = r.store.client.hold(ctx, "release", r.exporterKey(), session, nil)
	}
	err = errors.Join(err, r.store.client.destroySession(ctx, session))
	if err != nil {
		r.log.Warn("lease ends with its session's time", "err", err)
	}
	r.lose()
}

// watch follows the keys of all replicas.
func (r *Replicas) watch(ctx context.Context) {
	var index uint64
	for failures := 0; ; {
		pairs, at, err := r.store.client.read(ctx, r.folder(), true, index, false)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			index = 0
			r.update(func(v *View) { v.Err = err })
			if !sleep(ctx, rand.N(min(backoffMax, backoffBase<<min(failures, 10)))+time.Millisecond) {
				return
			}
			continue
		}
		failures = 0
		r.saw(pairs)
		if at < index {
			at = 0
		}
		index = max(1, at)
		if !sleep(ctx, watchEvery) {
			return
		}
	}
}

func (r *Replicas) saw(pairs []pair) {
	r.mu.Lock()
	own := r.session
	r.mu.Unlock()
	var next View
	present := false
	for _, p := range pairs {
		var m Member
		if p.Session == "" || json.Unmarshal(p.Value, &m) != nil {
			continue // let go of, or nobody's
		}
		if p.Key == r.exporterKey() {
			next.Exporter, next.Fence, next.Held = m, p.ModifyIndex, p.Session == own
			continue
		}
		if path.Base(p.Key) == m.Name {
			next.Members = append(next.Members, m)
			present = present || p.Session == own
		}
	}
	slices.SortFunc(next.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	r.update(func(v *View) { *v = next })
	if next.Exporter.Name == "" || !present {
		select {
		case r.tending <- struct{}{}:
		default:
		}
	}
}

// update tells of what has changed.
func (r *Replicas) update(change func(*View)) {
	r.mu.Lock()
	before := r.view
	change(&r.view)
	now := r.view
	r.mu.Unlock()
	same := before.Exporter == now.Exporter && before.Held == now.Held && before.Fence == now.Fence &&
		slices.Equal(before.Members, now.Members) && (before.Err == nil) == (now.Err == nil)
	if !same {
		r.opts.Changed(now)
	}
}
