package api

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// tokenBytes of randomness are beyond guessing.
	tokenBytes = 32
	// minToken is the least that a token put there by hand may have.
	minToken = 32
	maxToken = 512
)

// LoadToken reads the token in path, or makes one where there is no such file
// (mode 0600). A file that others may read is refused: the token is no secret
// any more.
func LoadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("api token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("api token %s: mode is %#o, must be 0600: others may have read it; remove the file to get a new token", path, mode)
	}
	if info.Size() > maxToken {
		return "", fmt.Errorf("api token %s: has %d bytes, at most %d", path, info.Size(), maxToken)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("api token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("api token %s: must be one line of at least %d printable characters", path, minToken)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails
	token := base64.RawURLEncoding.EncodeToString(raw)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("api token: %w", err)
	}
	// Written whole under another name: a reader never finds half a token.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("api token: %w", err)
	}
	_, err = tmp.WriteString(token + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("api token: %w", err), os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", errors.Join(fmt.Errorf("api token: %w", err), os.Remove(tmp.Name()))
	}
	return token, nil
}
