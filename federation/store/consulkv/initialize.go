package consulkv

import (
	"context"
	"errors"
	"fmt"
)

// ErrUninitialised means that there is no store below the prefix, and nobody has
// said that one is to begin there.
var ErrUninitialised = errors.New("no store was begun there: if this cluster is new, say so once by `isthmus store initialize`; " +
	"if it is not, its policies were cleared: restore Consul's snapshot, and start this again")

// Initialize begins an empty store, once in the life of a cluster: it is the
// operator's word that nothing was there before, which no replica can know. began
// is false where there is a store already, which stays as it is. Of several at the
// same time one begins it.
func Initialize(ctx context.Context, c Config) (began bool, err error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return false, fmt.Errorf("store: consul: %w", err)
	}
	s := &Store{config: c}
	if s.client, err = newClient(c); err != nil {
		return false, fmt.Errorf("store: consul: %w", err)
	}
	defer s.client.http.CloseIdleConnections()
	items, _, marked, err := s.whole(ctx, 0)
	switch {
	case err != nil:
		return false, fmt.Errorf("store: %w", err)
	case marked:
		return false, nil
	case len(items) > 0:
		return false, fmt.Errorf("store: %w: %d items are there", errNotWhole, len(items))
	}
	_, conflict, err := s.client.txn(ctx, []op{{Verb: "cas", Key: s.path(marker()), Value: []byte(`{"format":1}`), Index: 0}})
	if err != nil {
		return false, fmt.Errorf("store: consul: %w", err)
	}
	return !conflict, nil
}
