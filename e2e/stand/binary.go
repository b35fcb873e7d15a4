package stand

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Binary is the isthmus program of this tree, built once a test process.
// ISTHMUS_BIN names one that is built already.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ISTHMUS_BIN"); path != "" {
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	// One place a tree: the go command rebuilds it only when something changed.
	path := filepath.Join(root, "bin", "isthmus")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/isthmus")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w\n%s", err, out)
	}
	return path, nil
})

// Root is the folder of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
		dir = parent
	}
}

// InitializeStore is the operator's word that the cluster of a configuration file
// is new: without it no replica begins a store in Consul.
func InitializeStore(t testing.TB, config string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Binary(t), "store", "initialize", "--config", config).CombinedOutput()
	if err != nil {
		t.Fatalf("store initialize: %v: %s", err, out)
	}
	return string(out)
}
