package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	resetKeyPoint durable.Point = "gateway-reset-key"
	resetKeyKind  string        = "isthmus-reset-key 1"
)

// resetKey is the secret by which a restarted gateway tells peers at once that
// their connections are gone. It is made once and kept, readable by the owner
// only. One that is damaged beyond its second copy is replaced: peers then find out
// by their probes.
func resetKey(dir string, log *slog.Logger) (*[32]byte, error) {
	path := filepath.Join(dir, "reset.key")
	var key [32]byte
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	kept, damage := data, error(nil)
	if err == nil && len(data) != len(key) { // else of an older version, without a digest
		kept, damage, err = durable.Open(resetKeyKind, data)
		if err = errors.Join(damage, err); err != nil {
			log.Error("reset key was damaged", "path", path, "err", err)
		}
	}
	if len(kept) == len(key) {
		copy(key[:], kept)
	} else if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	if len(kept) == len(key) && damage == nil {
		return &key, nil
	}
	err = resetKeyPoint.Replace(path, 0o600, func(f *durable.File) error {
		_, err := f.Write(durable.Seal(resetKeyKind, key[:]))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	return &key, nil
}
