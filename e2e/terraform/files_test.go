package terraform_test

import (
	"io/fs"
	"strings"
)

// clean hides what terraform left in a folder: providers, states, locks.
func clean(files fs.FS) fs.FS { return cleaned{files} }

type cleaned struct{ fs.FS }

func (c cleaned) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(c.FS, name)
	kept := entries[:0]
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "terraform.tfstate") {
			kept = append(kept, e)
		}
	}
	return kept, err
}
