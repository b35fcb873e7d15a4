package tools

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// TB is what Require and Command need of a test; testing.TB has it.
type TB interface {
	Helper()
	Context() context.Context
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Require returns the path of a built program for a test: that in the variable
// ISTHMUS_NAME (ISTHMUS_CONSUL for "consul"), else that in the cache. A variable
// that names no program fails the test; a program that is nowhere skips it, or
// fails it in a strict run.
func Require(tb TB, name string) string {
	tb.Helper()
	variable := "ISTHMUS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if bin := os.Getenv(variable); bin != "" {
		if _, err := exec.LookPath(bin); err != nil {
			tb.Fatalf("%s=%s is no program: %v", variable, bin, err)
		}
		return bin
	}
	bin, err := lookup(tb.Context(), name)
	if err != nil {
		missing(tb, fmt.Sprintf("real %s is missing: %v; build it with: go run ./e2e/tools/build %s (minutes, once)", name, err, name))
	}
	return bin
}

func lookup(ctx context.Context, name string) (string, error) {
	b, err := New(Options{})
	if err != nil {
		return "", err
	}
	return b.Lookup(ctx, name)
}

// outsidePath lists where Debian keeps servers that it leaves out of a user's
// PATH.
var outsidePath = [...]string{"/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin"}

// Command returns the path of a program of the operating system for a test,
// looking also where Debian keeps servers. One that is missing skips the test,
// or fails it in a strict run.
func Command(tb TB, name string) string {
	tb.Helper()
	if bin, err := exec.LookPath(name); err == nil {
		return bin
	}
	for _, dir := range outsidePath {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err == nil && len(found) > 0 {
			return found[len(found)-1] // the newest of several versions sorts last
		}
	}
	missing(tb, fmt.Sprintf("real %s is missing: .ci/test packages installs it on Debian", name))
	return ""
}

// External returns the path of a program that .ci/test can neither install nor
// build: Terraform, moto, a cloud's own client. One that is missing fails the test
// in CI, which has them all, and skips it elsewhere; how tells what it is and how to
// get it.
func External(tb TB, name, how string) string {
	tb.Helper()
	if bin, err := exec.LookPath(name); err == nil {
		return bin
	}
	why := fmt.Sprintf("real %s is missing: %s", name, how)
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%s", why)
	}
	tb.Skipf("%s", why)
	return ""
}

// missing ends the test: a part that is absent in a strict run is a failure.
func missing(tb TB, why string) {
	tb.Helper()
	if Strict(os.Getenv) {
		tb.Fatalf("%s", why)
	}
	tb.Skipf("%s", why)
}

// Strict tells whether a missing part fails a test: in CI, and where .ci/test
// runs without ALLOW_MISSING=1 (it then sets ISTHMUS_STRICT=1).
func Strict(getenv func(string) string) bool {
	return getenv("CI") == "true" || getenv("ISTHMUS_STRICT") == "1"
}
