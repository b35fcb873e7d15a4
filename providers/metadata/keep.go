package metadata

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/internal/durable"
)

// point is the write point of what was found.
const point durable.Point = "locality"

// sealKind is in the first line of the file.
const sealKind = "isthmus-locality/1"

// maxFile bounds the file that is read.
const maxFile = 64 << 10

// Keep writes what was found.
func Keep(path string, f Found) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return point.Replace(path, 0o600, func(file *durable.File) error {
		_, err := file.Write(durable.Seal(sealKind, body))
		return err
	})
}

// Recall reads what Keep has written. The error is of os, or says what is wrong
// with the file.
func Recall(path string) (Found, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Found{}, err
	}
	if info.Size() > maxFile {
		return Found{}, fmt.Errorf("%s: has more than %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Found{}, err
	}
	body, _, err := durable.Open(sealKind, data) // what is damaged in one copy is whole in the other
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", path, err)
	}
	var f Found
	if err := json.Unmarshal(body, &f); err != nil {
		return Found{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := f.check(); err != nil {
		return Found{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
