package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of a Log.
const (
	// DefaultMaxRecords and DefaultMaxBytes bound the records besides the base:
	// years of changes by hand, a week of a busy pipeline. All are in memory.
	DefaultMaxRecords = 10_000
	DefaultMaxBytes   = 16 << 20
	// MaxChanges is how many recorded writes one transaction may hold: each has a
	// record, and the head is written once.
	MaxChanges = (store.MaxWrites - 1) / 2
	// maxAttempts bounds how often one write is tried against others: each time
	// another one got through.
	maxAttempts = 200
	// retryEvery is the pause of Run after a failure.
	retryEvery = 2 * time.Second
)

// ErrCompacted means that the history does not reach back that far.
var ErrCompacted = errors.New("the history does not reach back that far")

// ErrFuture means that nothing has that sequence yet.
var ErrFuture = errors.New("no such record yet")

// Options configure a Log.
type Options struct {
	// Store keeps the items and the records.
	Store store.Store
	// Kinds are what is recorded; writes of others pass through.
	Kinds []string
	// Now is the clock of records; nil is time.Now.
	Now func() time.Time
	// MaxRecords and MaxBytes bound the history; 0 means the defaults.
	MaxRecords int
	MaxBytes   int64
	// Base is where the revisions of the feed start (see feed.New).
	Base uint64
	// Log receives the log's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Log is a store.Store whose writes of some kinds are recorded. It is safe for
// concurrent use.
type Log struct {
	store.Store
	opts    Options
	log     *slog.Logger
	metrics *metrics
	feed    *feed.Feed[resource.Change]

	writing sync.Mutex    // writers of one process do not race each other
	compact chan struct{} // a token where there are too many records

	mu      sync.Mutex
	records []*Record   // base and chain, by sequence; replaced or appended to, never changed
	head    head        // where records end
	broken  string      // what is wrong with them, "" where they are whole
	config  configRules // of the config file
}

// New reads the records; the error is the store's.
func New(ctx context.Context, opts Options) (*Log, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxRecords == 0 {
		opts.MaxRecords = DefaultMaxRecords
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	l := &Log{Store: opts.Store, opts: opts, log: opts.Log, compact: make(chan struct{}, 1)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.feed = feed.New(opts.Base, func(a, b resource.Change) bool { return a.Hash == b.Hash && a.Sequence == b.Sequence })
	var err error
	if l.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if err := l.Sync(ctx); err != nil {
		// The store serves what it holds; so do we, and say what is missing.
		l.log.Error("history is not readable", "err", err)
	}
	return l, nil
}

// Feed lists and watches the records at hand, by sequence.
func (l *Log) Feed() *feed.Feed[resource.Change] { return l.feed }

// recorded says whether changes of the item are recorded.
func (l *Log) recorded(key store.Key) bool { return slices.Contains(l.opts.Kinds, key.Kind) }

// Put implements store.Store.
func (l *Log) Put(ctx context.Context, key store.Key, value []byte, expect uint64) (store.Item, error) {
	revision, err := l.Apply(ctx, store.Write{Key: key, Value: value, Expect: expect})
	if err != nil {
		return store.Item{}, err
	}
	return store.Item{Key: key, Value: slices.Clone(value), Revision: revision}, nil
}

// Delete implements store.Store.
func (l *Log) Delete(ctx context.Context, key store.Key, expect uint64) error {
	_, err := l.Apply(ctx, store.Write{Key: key, Delete: true, Expect: expect})
	return err
}

// Apply implements store.Store: the writes and the records of those that are
// recorded are one transaction.
func (l *Log) Apply(ctx context.Context, writes ...store.Write) (uint64, error) {
	if !slices.ContainsFunc(writes, func(w store.Write) bool { return l.recorded(w.Key) }) {
		return l.Store.Apply(ctx, writes...)
	}
	if err := store.CheckWrites(writes); err != nil {
		return 0, err
	}
	return l.append(ctx, func(ctx context.Context, _ *head) ([]store.Write, []*Record, error) { return l.pair(ctx, writes) })
}

// pair says what a transaction writes, each under the revision that its record
// starts from, and the records.
func (l *Log) pair(ctx context.Context, writes []store.Write) ([]store.Write, []*Record, error) {
	exact := slices.Clone(writes)
	var records []*Record
	for i, w := range writes {
		if !l.recorded(w.Key) {
			continue
		}
		if len(w.Value) > MaxValue {
			return nil, nil, fmt.Errorf("%s: %d bytes, at most %d are recorded: %w", w.Key, len(w.Value), MaxValue, store.ErrTooLarge)
		}
		have, err := l.Get(ctx, w.Key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
		if err := w.Permit(have.Revision); err != nil {
			return nil, nil, err
		}
		exact[i].Expect = have.Revision
		r := &Record{Origin: API, Kind: w.Key.Kind, Name: w.Key.Name, Action: Create}
		if have.Revision != store.Absent {
			r.Action, r.Before = Replace, orEmpty(have.Value)
		}
		if !w.Delete {
			r.After = orEmpty(w.Value)
		} else if r.Action = Delete; r.Before == nil {
			continue // what is not there stays away
		}
		records = append(records, r)
	}
	return exact, records, nil
}

// orEmpty tells an empty value from none.
func orEmpty(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// plan says what to write and to record at the end of the chain, which it may
// move. Nothing of either is to be done.
type plan func(ctx context.Context, end *head) ([]store.Write, []*Record, error)

// append makes what next says and its records one transaction, again and again
// while others are faster.
func (l *Log) append(ctx context.Context, next plan) (uint64, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	author := authorOf(ctx)
	for attempt := 0; ; attempt++ {
		end, err := loadHead(ctx, l.Store)
		if err != nil {
			return 0, err
		}
		writes, records, err := next(ctx, &end)
		if errors.Is(err, errBehind) && attempt < maxAttempts && pause(ctx, attempt) {
			continue
		}
		if err != nil || len(writes)+len(records) == 0 {
			return end.revision, err
		}
		if writes, err = chainAll(&end, writes, records, author, l.opts.Now()); err != nil {
			return 0, err
		}
		revision, err := l.Store.Apply(ctx, writes...)
		if err == nil {
			l.took(end, records, revision)
			return revision, nil
		}
		// A conflict of the head or of an item means that another was faster. The
		// next plan judges by what is there now, and refuses where it must.
		if _, raced := errors.AsType[*store.ConflictError](err); !raced || attempt == maxAttempts || !pause(ctx, attempt) {
			return 0, err
		}
		l.metrics.raced.Inc()
	}
}

func authorOf(ctx context.Context) store.Author {
	a := store.AuthorFrom(ctx)
	if a.Principal == "" {
		a.Principal = SystemPrincipal
	}
	if len(a.Reason) > store.MaxReason {
		// Not in the middle of a character: JSON would change it, and the hash with it.
		a.Reason = strings.ToValidUTF8(a.Reason[:store.MaxReason], "")
	}
	return a
}

// chainAll appends records and head to the writes of a transaction.
func chainAll(end *head, writes []store.Write, records []*Record, author store.Author, now time.Time) ([]store.Write, error) {
	for _, r := range records {
		r.Principal, r.Reason, r.RequestID = author.Principal, author.Reason, author.RequestID
		end.chain(r, now)
		if r.Action == Checkpoint {
			end.Checkpoint = r.Sequence
		}
		value, err := r.encode()
		if err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
		writes = append(writes, store.Write{Key: keyOf(r.Sequence), Value: value, Expect: store.Absent})
	}
	if len(records) == 0 {
		return writes, nil
	}
	w, err := end.write()
	return append(writes, w), err
}

// pause waits a moment, longer where more race; false means that ctx ended.
func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(rand.N(time.Millisecond << min(attempt, 5)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run keeps the records at hand in line with the store, drops the oldest beyond
// the bounds, and records what the config file says where that failed, until ctx
// ends.
func (l *Log) Run(ctx context.Context) error {
	for {
		_, since, err := l.List(ctx, "-")
		if err == nil {
			err = l.Sync(ctx)
		}
		if err == nil {
			err = l.recordWanted(ctx)
		}
		if err == nil {
			err = l.compactNow(ctx)
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return nil
		case err == nil:
			err = l.await(ctx, since)
		default:
			l.log.Warn("history does not follow", "err", err)
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil && !sleep(ctx, retryEvery) {
			return nil
		}
	}
}

// await waits for a change of the store or for too many records.
func (l *Log) await(ctx context.Context, since uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-l.compact:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, _, err := l.Changes(ctx, since)
	cancel()
	<-woken
	if errors.Is(err, store.ErrClosed) {
		return err
	}
	return nil // whatever it was, the store is looked at anew
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
