package syncout_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
)

// policy is a policy as a README has it: the block of HCL in the first section on
// ACLs, so that what is documented is what is proved.
func policy(t *testing.T, of string) string {
	t.Helper()
	path := map[string]string{"source": filepath.Join("..", "README.md"), "sync-out": "README.md"}[of]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "```hcl\n")
	rules, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("%s has no policy", path)
	}
	return rules
}

func tokenFile(t *testing.T, a *consultest.Agent, name, rules string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(a.Token(name, rules)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
