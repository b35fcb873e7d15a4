package api

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	// tokenBytes of randomness are beyond guessing.
	tokenBytes = 32
	// minToken is the least that a token put there by hand may have.
	minToken = 32
	maxToken = 512

	// tokenPoint is the write point of the token and of its copy.
	tokenPoint durable.Point = "api-token"
	copyKind                 = "isthmus-api-token 1"
	copySuffix               = ".copy"
	maxCopy                  = 4 * maxToken
)

// LoadToken reads the token in path, or makes one where there is no such file
// (mode 0600). A file that others may read is refused: the token is no secret
// any more.
//
// A sealed copy lies beside it. Where the file is no token any more, or differs
// from the copy in a single byte, it was damaged: the copy is put back, and damage
// says so. A token that somebody put there by hand differs in more, and is taken.
func LoadToken(path string) (token string, damage, err error) {
	data, err := readToken(path, maxToken)
	if errors.Is(err, fs.ErrNotExist) {
		token, err = makeToken(path)
		return token, nil, err
	}
	if err != nil {
		return "", nil, fmt.Errorf("api token %s: %w", path, err)
	}
	copied := readCopy(path + copySuffix)
	token, err = parseToken(data)
	switch {
	case err == nil && bytes.Equal(data, copied):
		return token, nil, nil
	case copied != nil && (err != nil || oneByteApart(data, copied)):
		damage = fmt.Errorf("%s was damaged and written anew from %s", path, path+copySuffix)
		if token, err = parseToken(copied); err != nil {
			return "", nil, fmt.Errorf("api token %s: %w", path, err)
		}
		// What cannot be written now serves all the same.
		return token, errors.Join(damage, putToken(path, copied)), nil
	case err != nil:
		return "", nil, fmt.Errorf("api token %s: %w", path, err)
	}
	// Put there by hand, or by an older version. Without a copy it serves, too.
	if err := putToken(path+copySuffix, durable.Seal(copyKind, data)); err != nil {
		damage = fmt.Errorf("there is no copy of it: %w", err)
	}
	return token, damage, nil
}

// readToken reads a file that must be private.
func readToken(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("mode is %#o, must be 0600: others may have read it; remove the file to get a new token", mode)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("has %d bytes, at most %d", info.Size(), limit)
	}
	return os.ReadFile(path)
}

// readCopy returns what the copy holds, nil where it is of no use.
func readCopy(path string) []byte {
	data, err := readToken(path, maxCopy)
	if err != nil {
		return nil
	}
	body, _, err := durable.Open(copyKind, data)
	if err != nil {
		return nil
	}
	return body
}

func oneByteApart(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	differ := 0
	for i := range a {
		if a[i] != b[i] {
			differ++
		}
	}
	return differ == 1
}

func parseToken(data []byte) (string, error) {
	token := strings.TrimSpace(string(data))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("must be one line of at least %d printable characters", minToken)
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
	// The copy first: once there is a token, it is the one of the copy.
	line := []byte(token + "\n")
	err := putToken(path+copySuffix, durable.Seal(copyKind, line))
	if err == nil {
		err = putToken(path, line)
	}
	if err != nil {
		return "", fmt.Errorf("api token: %w", err)
	}
	return token, nil
}

// putToken puts a file in place whole: a reader never finds half a token.
func putToken(path string, data []byte) error {
	return tokenPoint.Replace(path, 0o600, func(f *durable.File) error {
		_, err := f.Write(data)
		return err
	})
}
