package kubernetes_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
)

// A kubeconfig file in place of server and token; the environment says nothing.
func TestKubeconfig(t *testing.T) {
	b := newCluster(t)
	b.set(one)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	b.must(os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
  - {name: here, cluster: {server: %s, certificate-authority: %s}}
users:
  - {name: reader, user: {tokenFile: %s}}
contexts:
  - {name: one, context: {cluster: here, user: reader}}
  - {name: two, context: {cluster: nowhere, user: reader}}
current-context: two
`, b.proxy.URL(), b.CAFile(), b.token), 0o600))
	for _, name := range []string{"KUBECONFIG", "HTTPS_PROXY", "https_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	conf := b.config()
	conf.Connection = kubeapi.Connection{Kubeconfig: file, Context: "one"}
	b.run(conf).want("by kubeconfig", one)

	conf.Context = "" // the file's own leads nowhere
	err := b.source(conf).Run(t.Context(), func(*catalog.Snapshot) { t.Error("published") })
	if err == nil || !strings.Contains(err.Error(), "kubeconfig") {
		t.Errorf("want an error that names the file, got %v", err)
	}
}

// Files that cannot be used end Run with an error that names them, before any request.
func TestFilesThatCannotBeUsed(t *testing.T) {
	for name, conn := range map[string]kubeapi.Connection{
		"no kubeconfig": {Kubeconfig: "/nonexistent/kubeconfig"},
		"no CA":         {Server: "https://127.0.0.1:1", TLS: kubeapi.TLS{CAFile: "/nonexistent/ca.pem"}},
	} {
		s, err := kubernetes.New(kubernetes.Options{Name: "k", Config: kubernetes.Config{Connection: conn}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background(), func(*catalog.Snapshot) {}); err == nil || !strings.Contains(err.Error(), "/nonexistent/") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
