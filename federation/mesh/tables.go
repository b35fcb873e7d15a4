package mesh

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// tables holds the current table, encoded once for all gateways. There is no
// queue: a gateway that was busy gets the newest one.
type tables struct {
	mu      sync.Mutex
	line    []byte // {"table":...}, with its end of line; nil until the first
	at      position
	changed chan struct{}
}

// position orders tables.
type position struct{ epoch, version uint64 }

func (p position) before(o position) bool {
	return p.epoch < o.epoch || (p.epoch == o.epoch && p.version < o.version)
}

func newTables() *tables { return &tables{changed: make(chan struct{})} }

func (t *tables) publish(table *route.Table) (size int, err error) {
	line, err := json.Marshal(TableLine{Table: table})
	if err != nil {
		return 0, fmt.Errorf("table: %w", err)
	}
	if len(line) >= MaxTableBytes {
		return 0, fmt.Errorf("table: %d bytes, at most %d", len(line), MaxTableBytes)
	}
	line = append(line, '\n')
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line, t.at = line, position{table.Epoch, table.Version}
	close(t.changed)
	t.changed = make(chan struct{})
	return len(line), nil
}

// current returns the encoded table, its position, and a channel that is closed
// when it is no longer the current one.
func (t *tables) current() ([]byte, position, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.line, t.at, t.changed
}
