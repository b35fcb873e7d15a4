package discovery

import (
	"context"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Publish hands over a complete snapshot of a source; it replaces the one
// before. It does not block for long and may be called from one goroutine at a
// time only.
type Publish func(*catalog.Snapshot)

// Source is where a catalog is read from: Consul, a file, a child process, a
// cloud's API. It has one method.
//
// Run reads until ctx ends, and calls publish with a complete, immutable
// snapshot of everything that the source knows: once after the first complete
// read, then whenever the content changed.
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
//     where going on makes no sense (it is started anew with back-off). It has
//     waited for its goroutines, and publish is never called after its return.
//   - A snapshot that is published belongs to everybody: nothing of it changes.
//   - A source reads neither the environment nor files that its configuration
//     does not name, and puts no secret into a snapshot, a log or an error.
//
// discoverytest.Source checks this contract.
type Source interface {
	Run(ctx context.Context, publish Publish) error
}

// SourceFunc is a function that is a Source.
type SourceFunc func(ctx context.Context, publish Publish) error

// Run calls f.
func (f SourceFunc) Run(ctx context.Context, publish Publish) error { return f(ctx, publish) }
