package keep

import (
	"os"
	"time"
)

// Mark tells whether a file may have changed since it was looked at, for a stat's
// price. A nil Mark is of a file that was never looked at.
type Mark struct {
	modified time.Time
	size     int64
	file     os.FileInfo // for os.SameFile: a renamed-over file has another inode; nil when missing
}

// MarkOf looks at a file. Take the mark before reading: a change in between is
// then seen next time.
func MarkOf(path string) *Mark {
	info, err := os.Stat(path)
	if err != nil {
		return &Mark{}
	}
	return &Mark{modified: info.ModTime(), size: info.Size(), file: info}
}

// Same reports whether both marks are of the same state of a file.
func (m *Mark) Same(o *Mark) bool {
	if m == nil || o == nil {
		return m == o
	}
	if m.file == nil || o.file == nil {
		return m.file == nil && o.file == nil
	}
	return m.modified.Equal(o.modified) && m.size == o.size && os.SameFile(m.file, o.file)
}
