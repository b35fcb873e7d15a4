package virtual

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	point durable.Point = "gateway-addresses"
	kind  string        = "isthmus-addresses 1"
	// maxFile bounds what is read: maxEntries of the longest names, twice.
	maxFile = 2 * maxEntries * 400
)

// record is an assignment on disk.
type record struct {
	Service catalog.ServiceName `json:"service"`
	Cluster catalog.ClusterName `json:"cluster,omitempty"`
	Address netip.Addr          `json:"address"`
	Seen    time.Time           `json:"seen"`
}

// load reads the file. What is not of the range, as after the range was changed, or
// is there twice is left out.
func (b *Book) load() error {
	data, err := read(b.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	body, damage, err := durable.Open(kind, data)
	var records []record
	if err == nil {
		err = json.Unmarshal(body, &records)
	}
	if damaged := errors.Join(damage, err); damaged != nil {
		b.o.Log.Error("virtual addresses on disk were damaged", "path", b.o.Path, "err", damaged)
	}
	if err != nil {
		return nil //nolint:nilerr // told above: most addresses follow from names, so that a book begun anew is much like the old
	}
	left := 0
	for _, r := range records {
		k := Key{Service: r.Service, Cluster: r.Cluster}
		if k.Service.IsZero() || !b.usable(r.Address) || b.byKey[k] != nil || b.byAddr[r.Address] != nil {
			left++
			continue
		}
		e := &entry{key: k, address: r.Address, seen: r.Seen}
		b.byKey[k], b.byAddr[r.Address] = e, e
	}
	if left > 0 {
		b.o.Log.Warn("virtual addresses on disk are not of the range, and are given anew", "path", b.o.Path, "count", left)
	}
	b.savedAt = b.o.Now()
	if damage != nil { // whole again
		b.changes++
		b.keep(b.changes)
	}
	return nil
}

// usable reports whether a is one that the book may give.
func (b *Book) usable(a netip.Addr) bool {
	return b.o.Range.Contains(a) && a.Compare(b.span.first) >= 0 && a.Compare(b.span.at(b.span.n-1)) <= 0
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: longer than %d bytes", path, maxFile)
	}
	return data, err
}

// keep waits until the book is on disk as of a change. Who waits for another's write
// finds its own in the next one, so that many at once cost two.
func (b *Book) keep(change uint64) {
	b.saving.Lock()
	defer b.saving.Unlock()
	if b.saved >= change {
		return
	}
	b.mu.RLock()
	now, changes := b.o.Now(), b.changes
	records := make([]record, 0, len(b.byKey))
	for k, e := range b.byKey {
		records = append(records, record{Service: k.Service, Cluster: k.Cluster, Address: e.address, Seen: e.seen.UTC().Truncate(time.Second)})
	}
	b.mu.RUnlock()
	slices.SortFunc(records, func(x, y record) int {
		return cmp.Or(x.Service.Compare(y.Service), cmp.Compare(x.Cluster, y.Cluster))
	})
	body, err := json.Marshal(records)
	if err == nil {
		err = point.Replace(b.o.Path, 0o600, func(f *durable.File) error {
			_, err := f.Write(durable.Seal(kind, body))
			return err
		})
	}
	if err != nil {
		b.o.Log.Error("virtual addresses cannot be kept on disk", "path", b.o.Path, "err", err)
	} else {
		b.saved, b.savedAt = changes, now
	}
	b.mu.Lock()
	b.faulty = err
	b.mu.Unlock()
}
