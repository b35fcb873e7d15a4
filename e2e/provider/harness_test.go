package provider_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// workspace is a folder of Terraform's, with the provider of this tree, and the
// federation that it manages.
type workspace struct {
	t         *testing.T
	dir       string
	terraform string
	env       []string
	api       *client.Client
	cluster   *stand.Cluster
	http      string // the gateway's HTTP way in
}

// built is the folder of the provider's binary.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "provider-")
	if err != nil {
		return "", err
	}
	folders = append(folders, dir)
	cmd := exec.Command("go", "build", "-C", "../../terraform/provider", "-o", filepath.Join(dir, "terraform-provider-isthmus"), ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the provider: %w: %s", err, out)
	}
	return dir, nil
})

var folders []string

func TestMain(m *testing.M) {
	m.Run()
	for _, dir := range folders {
		_ = os.RemoveAll(dir)
	}
}

// federation starts a cluster with a gateway and one service, and a workspace for it.
func federation(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), terraform: tools.External(t, "terraform", "Terraform 1.8 or newer, from its own site; the provider's acceptance tests need it")}
	provider, err := built()
	if err != nil {
		t.Fatal(err)
	}
	s := stand.New(t, stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"})
	w.cluster = s.Clusters[0]
	backend := http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("hello")) }), ReadHeaderTimeout: time.Minute}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = backend.Serve(ln) }()
	t.Cleanup(func() { _ = backend.Close() })
	w.cluster.WriteCatalog(t, stand.Service{Name: "orders.shop", Port: "main", Protocol: "http", Addresses: []string{ln.Addr().String()}})
	for _, kind := range []string{"intentions", "exports", "imports"} {
		delete(w.cluster.Section(), kind) // the file's rules cannot be written over the API
	}
	s.Start()
	w.http = w.cluster.Gateways[0].HTTP.String()
	token := filepath.Join(s.Dir, "east", "data", "federation", "api.token")
	text, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	if w.api, err = client.New(client.Options{URL: "http://" + w.cluster.API.String(), Token: strings.TrimSpace(string(text))}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	rc := filepath.Join(w.dir, "terraform.rc")
	w.write("terraform.rc", fmt.Sprintf("provider_installation {\n  dev_overrides { \"isthmus-mesh/isthmus\" = %q }\n  direct {}\n}\n", provider))
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+rc, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "ISTHMUS_API=http://"+w.cluster.API.String(), "ISTHMUS_TOKEN_FILE="+token)
	return w
}

func (w *workspace) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

const head = `terraform {
  required_providers {
    isthmus = { source = "isthmus-mesh/isthmus" }
  }
}
provider "isthmus" {}
`

// config replaces the configuration.
func (w *workspace) config(text string) { w.t.Helper(); w.write("main.tf", head+text) }

// run returns what terraform prints and its exit code.
func (w *workspace) run(args ...string) (string, int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.terraform, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		w.t.Fatalf("terraform %v: %v", args, err)
	}
	return string(out), 0
}

// apply must succeed, and leave nothing to do.
func (w *workspace) apply() string {
	w.t.Helper()
	out, code := w.run("apply", "-auto-approve", "-input=false", "-no-color")
	if code != 0 {
		w.t.Fatalf("apply: %s", out)
	}
	w.nothing()
	return out
}

// nothing is left to do.
func (w *workspace) nothing() {
	w.t.Helper()
	if out, code := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("a second plan has changes (exit %d): %s", code, out)
	}
}

// plan has changes, and prints each of want.
func (w *workspace) plan(want ...string) {
	w.t.Helper()
	out, code := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color")
	if code != 2 {
		w.t.Fatalf("plan: exit %d: %s", code, out)
	}
	w.contains(out, want...)
}

// refused is an apply that fails and says each of want.
func (w *workspace) refused(want ...string) {
	w.t.Helper()
	out, code := w.run("apply", "-auto-approve", "-input=false", "-no-color")
	if code == 0 {
		w.t.Fatalf("apply succeeds: %s", out)
	}
	w.contains(out, want...)
}

// contains looks for texts, wherever terraform breaks its lines.
func (w *workspace) contains(out string, want ...string) {
	w.t.Helper()
	flat := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", " ")), " ")
	for _, text := range want {
		if !strings.Contains(flat, text) {
			w.t.Errorf("terraform does not say %q:\n%s", text, out)
		}
	}
}
