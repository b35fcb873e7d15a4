package gateway

import (
	"context"
	"time"
)

// sweepInterval is the least time between two looks at the calls in progress after new
// tables: what a table withdraws ends well within a second, and a burst of tables does
// not cost a look each.
const sweepInterval = 200 * time.Millisecond

// sweepSoon asks for a look at the calls in progress.
func (t *tables) sweepSoon() {
	select {
	case t.swept <- struct{}{}:
	default:
	}
}

// sweep ends the calls in progress that the table in force no longer allows, until ctx
// ends.
func (t *tables) sweep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.swept:
		}
		t.g.router.Sweep()
		if !pause(ctx, sweepInterval) {
			return nil
		}
	}
}
