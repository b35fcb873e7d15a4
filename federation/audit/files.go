package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	filePrefix, fileSuffix = "audit-", ".jsonl"
	// sequenceDigits make names sort as their numbers do.
	sequenceDigits = 20
)

func fileName(first uint64) string {
	return fmt.Sprintf("%s%0*d%s", filePrefix, sequenceDigits, first, fileSuffix)
}

// file is one file of a log.
type file struct {
	path  string
	first uint64
	size  int64
}

// list finds the files of a log, oldest first. A directory that is not there has
// none.
func list(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []file
	for _, e := range entries {
		digits, isOurs := strings.CutPrefix(e.Name(), filePrefix)
		digits, ends := strings.CutSuffix(digits, fileSuffix)
		if !isOurs || !ends || len(digits) != sequenceDigits || !e.Type().IsRegular() {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, file{path: filepath.Join(dir, e.Name()), first: first, size: info.Size()})
	}
	slices.SortFunc(out, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return out, nil
}
