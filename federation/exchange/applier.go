package exchange

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ApplierOptions configure an Applier.
type ApplierOptions struct {
	// Cluster and ID are the peer's, from the own configuration: the only origin
	// that this Applier takes data of.
	Cluster catalog.ClusterName
	ID      spiffeid.ID
	// AllowLoopback accepts gateways at loopback addresses, for clusters that
	// share one host.
	AllowLoopback bool
	// Limits are the peer's quotas; a zero Limits means DefaultLimits.
	Limits Limits
}

// Applier is the listener's side of the exchange as a pure state machine: it
// takes lines and the time, and holds the last good Snapshot. Whatever it
// refuses leaves that as it was. It is for one goroutine at a time.
type Applier struct {
	opts     ApplierOptions
	snapshot *Snapshot
	batch    *batch
	synced   bool // this stream has had its first batch
	needFull bool
	tokens   bucket
	texts    texts
}

// Effect is what a line led to.
type Effect struct {
	// Synced: a batch is complete, or a heartbeat has confirmed the state.
	Synced bool
	// Changed: Snapshot is a new one. It may say the same under a new position.
	Changed bool
	// Bundle is the peer's bundle document where it has changed.
	Bundle json.RawMessage
}

// NewApplier starts with nothing; Restore brings a state back from disk.
func NewApplier(opts ApplierOptions) *Applier {
	if opts.Limits == (Limits{}) {
		opts.Limits = DefaultLimits()
	}
	return &Applier{opts: opts, tokens: newBucket(opts.Limits.UpdatesPerSecond, opts.Limits.UpdateBurst)}
}

// Snapshot is the last good state, nil where there never was one.
func (a *Applier) Snapshot() *Snapshot { return a.snapshot }

// Connected starts a new stream: an unfinished batch of the last one is dropped.
// It returns what to ask the peer for.
func (a *Applier) Connected() (have Position, full bool) {
	a.batch, a.synced = nil, false
	return a.snapshot.Position(), a.needFull || a.snapshot == nil
}

// Apply takes one line without its newline. Any error is a *RefusedError, ends
// the stream and drops the batch; the Snapshot stays.
func (a *Applier) Apply(line []byte, now time.Time) (Effect, error) {
	effect, err := a.apply(line, now)
	if err != nil {
		a.batch = nil
		if re := err.(*RefusedError); re.Reason == ReasonGap || re.Reason == ReasonDigest { //nolint:errorlint // apply returns no other
			a.needFull = true
		}
	}
	return effect, err
}

func (a *Applier) apply(line []byte, now time.Time) (Effect, error) {
	if len(line) > a.opts.Limits.Line {
		return Effect{}, exceeds("line bytes", len(line), a.opts.Limits.Line)
	}
	if a.batch == nil {
		if !a.tokens.take(now) {
			return Effect{}, refuse(ReasonRate, "more than %v updates per second", a.opts.Limits.UpdatesPerSecond)
		}
	} else if err := a.batch.tick(now, a.opts.Limits); err != nil {
		return Effect{}, err
	}
	e, err := ParseEvent(line)
	if err != nil {
		return Effect{}, err
	}
	switch e.Type {
	case Begin:
		return Effect{}, a.begin(e, now)
	case Heartbeat:
		return a.heartbeat(e)
	case Service, Remove, Roster, Bundle, Conflicts:
		if a.batch == nil {
			return Effect{}, refuse(ReasonProtocol, "%s: outside of a batch", e.Type)
		}
		return Effect{}, a.gather(e)
	case Sync:
		if a.batch == nil {
			return Effect{}, refuse(ReasonProtocol, "sync: outside of a batch")
		}
		return a.sync(e)
	}
	return Effect{}, nil // of a later version, which says by its format if it matters
}

// tick bounds how long a batch may last and how many lines it may have: each
// service twice (put and remove), the few single items, and room for the events
// of later versions.
func (b *batch) tick(now time.Time, l Limits) error {
	const room = 1000
	b.lines++
	if most := 2*l.Services + room; b.lines > most {
		return exceeds("lines of a batch", b.lines, most)
	}
	if d := now.Sub(b.began); d > maxBatchTime {
		return refuse(ReasonRate, "batch is not complete after %v", d.Round(time.Second))
	}
	return nil
}

func (a *Applier) begin(e *Event, now time.Time) error {
	if a.batch != nil {
		return refuse(ReasonProtocol, "begin: within a batch")
	}
	if e.Format != Format {
		return refuse(ReasonFormat, "format: value %d: this version understands %d", e.Format, Format)
	}
	if e.Cluster != string(a.opts.Cluster) {
		return refuse(ReasonOrigin, "cluster: value %.80q: the peer is %q", e.Cluster, a.opts.Cluster)
	}
	to, have := Position{e.Epoch, e.Version}, a.snapshot.Position()
	if e.Epoch == 0 || e.Version == 0 || e.Epoch > MaxEpoch {
		return refuse(ReasonInvalid, "epoch, version: value (%d, %d): both are above 0, the epoch at most %d", e.Epoch, e.Version, uint64(MaxEpoch))
	}
	if to.Before(have) {
		return refuse(ReasonStale, "(epoch, version): value (%d, %d): (%d, %d) is applied already", to.Epoch, to.Version, have.Epoch, have.Version)
	}
	if e.Delta && (a.snapshot == nil || e.Epoch != have.Epoch || e.Since != have.Version) {
		return refuse(ReasonGap, "since: value (%d, %d): the last applied is (%d, %d)", e.Epoch, e.Since, have.Epoch, have.Version)
	}
	if err := policy.CheckClusterLabels(e.Labels); err != nil {
		return &RefusedError{Reason: ReasonInvalid, What: "labels", Err: err}
	}
	a.batch = &batch{
		cluster: a.opts.Cluster, labels: e.Labels, to: to, delta: e.Delta, began: now,
		puts: make(map[string]item), removes: make(map[string]bool),
	}
	return nil
}

// gather enters one item's event into the batch.
func (a *Applier) gather(e *Event) error {
	b, l := a.batch, a.opts.Limits
	if b.delta && b.to == a.snapshot.Position() {
		return refuse(ReasonProtocol, "%s: a change without a new version", e.Type)
	}
	switch e.Type {
	case Service:
		key, it, err := parseService(e.Service, e.summary, &a.texts)
		if err != nil {
			return err
		}
		return b.put(key, it, l)
	case Remove:
		name, err := catalog.ParseServiceName(e.Name)
		if err != nil || name.String() != e.Name {
			return refuse(ReasonInvalid, "name: value %.200q: must be name.namespace", e.Name)
		}
		if !b.delta {
			return refuse(ReasonProtocol, "remove: within a full list")
		}
		key := serviceKey(name)
		if _, put := b.puts[key]; put || b.removes[key] {
			return refuse(ReasonProtocol, "%.200s: is in one batch twice", key)
		}
		b.removes[key] = true
		return nil
	case Roster:
		list, err := parseRoster(e.Gateways, a.opts.ID, a.opts.AllowLoopback, l)
		if err != nil {
			return err
		}
		b.gateways = list
		return b.put(rosterKey, item{raw: &raw{value: e.Gateways}}, l)
	case Bundle:
		if doc := bytes.TrimSpace(e.Bundle); len(doc) == 0 || doc[0] != '{' {
			return refuse(ReasonInvalid, "bundle: must be a JSON object")
		}
		b.bundle = e.Bundle
		return b.put(bundleKey, item{raw: &raw{value: e.Bundle}}, l)
	default:
		list, err := parseConflicts(e.Conflicts, l)
		if err != nil {
			return err
		}
		b.conflicts = list
		return b.put(conflictsKey, item{raw: &raw{value: e.Conflicts}}, l)
	}
}

func (a *Applier) sync(e *Event) (Effect, error) {
	b := a.batch
	if (Position{e.Epoch, e.Version}) != b.to {
		return Effect{}, refuse(ReasonProtocol, "sync: value (%d, %d): the batch began with (%d, %d)", e.Epoch, e.Version, b.to.Epoch, b.to.Version)
	}
	next := a.snapshot.with(b)
	if err := next.totals.check(a.opts.Limits); err != nil {
		return Effect{}, err
	}
	if e.Services != next.totals.services || e.Digest != next.digest.String() {
		return Effect{}, refuse(ReasonDigest, "sync: value %d services, %.80q: counted %d, %s", e.Services, e.Digest, next.totals.services, next.digest)
	}
	effect := Effect{Synced: true}
	a.batch, a.synced, a.needFull = nil, true, false
	if a.snapshot != nil && b.to == a.snapshot.position && next.digest == a.snapshot.digest {
		return effect, nil
	}
	effect.Changed = true
	if next.bundle != nil && !bytes.Equal(next.bundle, a.snapshot.Bundle()) {
		effect.Bundle = next.bundle
	}
	a.snapshot = next
	return effect, nil
}

func (a *Applier) heartbeat(e *Event) (Effect, error) {
	at, have := Position{e.Epoch, e.Version}, a.snapshot.Position()
	switch {
	case a.batch != nil:
		return Effect{}, refuse(ReasonProtocol, "heartbeat: within a batch")
	case !a.synced:
		return Effect{}, refuse(ReasonProtocol, "heartbeat: before the first batch")
	case at.Before(have):
		return Effect{}, refuse(ReasonStale, "heartbeat: value (%d, %d): (%d, %d) is applied already", at.Epoch, at.Version, have.Epoch, have.Version)
	case at != have:
		return Effect{}, refuse(ReasonGap, "heartbeat: value (%d, %d): the last applied is (%d, %d)", at.Epoch, at.Version, have.Epoch, have.Version)
	case e.Digest != a.snapshot.Digest():
		return Effect{}, refuse(ReasonDigest, "heartbeat: value %.80q: counted %s", e.Digest, a.snapshot.Digest())
	}
	return Effect{Synced: true}, nil
}
