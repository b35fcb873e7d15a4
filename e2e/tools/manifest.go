package tools

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// manifests is the nested module that pins the kinds of others.
const manifests = "manifests"

// Manifest returns the path of a file of a module that e2e/tools/manifests pins: what
// defines a kind of others (a CustomResourceDefinition) as its authors publish it.
// One that cannot be had skips the test, or fails it in a strict run.
func Manifest(tb TB, module, file string) string {
	tb.Helper()
	path, err := manifest(tb, module, file)
	if err != nil {
		missing(tb, fmt.Sprintf("%s of %s is missing: %v", file, module, err))
	}
	return path
}

func manifest(tb TB, module, file string) (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(tb.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Env = filepath.Join(dir, manifests), append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download the module: %w", err)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", err
	}
	path := filepath.Join(got.Dir, filepath.FromSlash(file))
	_, err = os.Stat(path)
	return path, err
}
