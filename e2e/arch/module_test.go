package arch_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// pin fixes the version of a module. Some newer versions ask for a newer Go or
// were released against modules that cannot be had; a bump is one line here and
// one in go.mod, after trying it.
type pin struct {
	file, module, version string
	later                 bool // need not be required yet: no package imports it
}

const (
	product, consulTool, lintTool = "go.mod", "e2e/tools/consul/go.mod", "e2e/tools/lint/go.mod"
	helmTool, releaser            = "e2e/tools/helm/go.mod", "deploy/release/go.mod"
	kubeTool, manifests           = "e2e/tools/kube/go.mod", "e2e/tools/manifests/go.mod"
	kubectlTool                   = "e2e/tools/kubectl/go.mod"
)

var pins = []pin{
	{file: product, module: "github.com/quic-go/quic-go", version: "v0.65.0"},
	{file: product, module: "github.com/spiffe/go-spiffe/v2", version: "v2.9.0"},
	// v1.35.0 asks for Go 1.26.9.
	{file: product, module: "github.com/hashicorp/consul/api", version: "v1.34.5"},
	{file: product, module: "github.com/danielgtaylor/huma/v2", version: "v2.37.2"},
	// v0.16.0 asks for Go 1.26.9.
	{file: product, module: "github.com/pires/go-proxyproto", version: "v0.15.0"},
	// The AWS modules are released together and work in this set.
	{file: product, module: "github.com/aws/aws-sdk-go-v2", version: "v1.47.7"},
	{file: product, module: "github.com/aws/aws-sdk-go-v2/config", version: "v1.33.15"},
	{file: product, module: "github.com/aws/aws-sdk-go-v2/service/ec2", version: "v1.344.1"},
	// providers/gcp knows what these leave out of a list's requests, and where a
	// page's own words are to be had.
	{file: product, module: "cloud.google.com/go/compute", version: "v1.75.0"},
	{file: product, module: "cloud.google.com/go/servicedirectory", version: "v1.19.1"},
	// One release of Kubernetes: the client and the server that it is tested with.
	{file: product, module: "k8s.io/client-go", version: "v0.37.2"},
	{file: kubeTool, module: "k8s.io/kubernetes", version: "v1.37.2"},
	{file: kubectlTool, module: "k8s.io/kubernetes", version: "v1.37.2"},
	{file: manifests, module: "sigs.k8s.io/mcs-api", version: "v0.5.0"},
	{file: manifests, module: "istio.io/api", version: "v1.29.0"},

	// v1.22.0 requires submodules that the checksum database does not know.
	{file: consulTool, module: "github.com/hashicorp/consul", version: "v1.21.0"},
	{file: helmTool, module: "helm.sh/helm/v3", version: "v3.22.0"},
	// Newer ones require a module that cannot be had.
	{file: releaser, module: "github.com/goreleaser/nfpm/v2", version: "v2.43.0"},
	{file: lintTool, module: "github.com/golangci/golangci-lint/v2", version: "v2.15.0"},
	{file: lintTool, module: "mvdan.cc/gofumpt", version: "v0.12.0"},
	{file: lintTool, module: "gotest.tools/gotestsum", version: "v1.13.0"},
}

// toolsOnly are modules that must not enter the product's graph: they would more
// than double it, and one of them is under a licence that forbids shipping it.
var toolsOnly = []string{"github.com/hashicorp/consul", "github.com/golangci/golangci-lint/v2", "gotest.tools/gotestsum", "mvdan.cc/gofumpt", "k8s.io/kubernetes", "helm.sh/helm/v3", "github.com/goreleaser/nfpm/v2"}

// goMod is what go mod edit -json prints, as far as it is asked here.
type goMod struct {
	Require []struct{ Path, Version string }
	Replace []struct{ Old struct{ Path string } }
	Tool    []struct{ Path string }
}

func readMod(t *testing.T, file string) (goMod, map[string]string) {
	t.Helper()
	out, err := goCommand(t, "mod", "edit", "-json", file)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var mod goMod
	if err := json.Unmarshal([]byte(out), &mod); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	versions := map[string]string{}
	for _, r := range mod.Require {
		versions[r.Path] = r.Version
	}
	return mod, versions
}

func TestVersionsArePinned(t *testing.T) {
	for _, p := range pins {
		_, versions := readMod(t, p.file)
		switch got, ok := versions[p.module]; {
		case !ok && !p.later:
			t.Errorf("%s does not require %s, pinned at %s", p.file, p.module, p.version)
		case ok && got != p.version:
			t.Errorf("%s requires %s %s, pinned at %s", p.file, p.module, got, p.version)
		}
	}
}

func TestProductModuleIsPlain(t *testing.T) {
	mod, versions := readMod(t, product)
	for _, r := range mod.Replace {
		t.Errorf("go.mod replaces %s: importers of this module would not", r.Old.Path)
	}
	for _, tool := range mod.Tool {
		t.Errorf("go.mod has the tool %s: tools are modules of their own in e2e/tools", tool.Path)
	}
	for _, name := range toolsOnly {
		if v, ok := versions[name]; ok {
			t.Errorf("go.mod requires %s %s: it belongs to a module of its own in e2e/tools", name, v)
		}
	}
	for name := range versions {
		if strings.HasPrefix(name, module) {
			t.Errorf("go.mod requires %s, a module of this repository", name)
		}
	}
}
