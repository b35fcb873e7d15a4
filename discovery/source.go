package discovery

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Publish hands over a complete snapshot of a source; it replaces the one
// before. It does not block for long and is called from one goroutine at a time.
//
// It is an alias, so that a source satisfies Source without importing this
// package.
type Publish = func(*catalog.Snapshot)

// Source is where a catalog is read from: Consul, a file, a child process, a
// cloud's API. It has one method.
//
// Run reads until ctx ends, and calls publish with a complete, immutable
// snapshot of everything that the source knows: once after the first complete
// read, then whenever the content changed. A snapshot that equals the one before
// may be published, too: it says that another complete read found the same.
//
//   - All or nothing. A read that failed, or was cut, or that the source itself
//     has reason to distrust (no leader, filtered by permissions, half of the
//     pages) publishes nothing: the last good snapshot goes on. Stale is better
//     than wrong.
//   - Empty means empty. A source publishes a snapshot without services only
//     after a complete read that found none.
//   - No policy. A source reports what there is: it does not filter by health,
//     rename, prefer or choose. It maps what it reads to catalog values, and
//     leaves out, counts and logs the single items that are no valid values.
//   - Run returns nil soon after ctx ends; until then it returns an error only
//     where going on makes no sense (a Runner starts it anew with back-off). It
//     has waited for its goroutines, and publish is never called after its
//     return. Run may be called again.
//   - A snapshot that is published belongs to everybody: nothing of it changes.
//   - A source reads neither the environment nor files that its configuration
//     does not name, and puts no secret into a snapshot, a log or an error.
//
// discoverytest.Source checks this contract.
type Source interface {
	Run(ctx context.Context, publish Publish) error
}

// Reporter is a Source that knows more of its state than what it publishes. A
// source that goes on after a failed read implements it, or nobody sees the
// failure.
type Reporter interface {
	// LastRead returns when the last complete read ended, whether it changed
	// anything or not (the zero time: none has), and what went wrong since then.
	LastRead() (time.Time, error)
}

// Rereader is a Source that can be asked to read everything anew. A Runner asks
// it to while its Guard holds endpoints back.
type Rereader interface {
	// Reread returns at once. Soon afterwards the source has read everything
	// and published it, also where nothing changed, or reports an error.
	Reread()
}

// SourceFunc is a function that is a Source.
type SourceFunc func(ctx context.Context, publish Publish) error

// Run calls f.
func (f SourceFunc) Run(ctx context.Context, publish Publish) error { return f(ctx, publish) }
