package stand

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// SourceBinary is the isthmus-source program of this tree, built once a test
// process: minutes, the first time.
func SourceBinary(t testing.TB) string {
	t.Helper()
	path, err := sourceBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var sourceBinary = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "isthmus-source")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/isthmus-source")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus-source: %w\n%s", err, out)
	}
	return path, nil
})
