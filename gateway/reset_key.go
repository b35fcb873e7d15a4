package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resetKey is the secret by which a restarted gateway tells peers at once that
// their connections are gone. It is made once and kept, readable by the owner
// only; a file of another size is replaced.
func resetKey(dir string) (*[32]byte, error) {
	path := filepath.Join(dir, "reset.key")
	var key [32]byte
	data, err := os.ReadFile(path)
	switch {
	case err == nil && len(data) == len(key):
		copy(key[:], data)
		return &key, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reset key: %w", err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	// Renamed into place, so that a crash leaves a whole key or none.
	if err := os.WriteFile(path+".tmp", key[:], 0o600); err != nil {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return nil, fmt.Errorf("reset key: %w", err)
	}
	return &key, nil
}
