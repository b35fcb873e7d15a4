package health

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// beat is how often the process shows itself that it runs.
	beat = 50 * time.Millisecond
	// stallLimit is how late a beat may be before a timeout of that moment is
	// this process's own fault: well above scheduling noise, well below any
	// sensible timeout of a check.
	stallLimit = 100 * time.Millisecond
)

// stallWatch notices when this process did not run for a while.
type stallWatch struct {
	last  atomic.Int64 // Unix nanoseconds of the last beat
	stall atomic.Int64 // when a stall last ended
}

func newStallWatch() *stallWatch { return new(stallWatch) }

func (s *stallWatch) run(ctx context.Context) {
	timer := time.NewTimer(beat)
	defer timer.Stop()
	s.last.Store(time.Now().UnixNano())
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			now := time.Now().UnixNano()
			if now-s.last.Load() > int64(beat+stallLimit) {
				s.stall.Store(now)
			}
			s.last.Store(now)
			timer.Reset(beat)
		}
	}
}

// since reports whether the process stalled at some moment after start. The beat
// itself may not have run yet after the stall, so its absence counts too.
func (s *stallWatch) since(start, now time.Time) bool {
	last := s.last.Load()
	return s.stall.Load() >= start.UnixNano() || (last != 0 && now.UnixNano()-last > int64(beat+stallLimit))
}
