package release_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// least are the values that have no default.
var least = []string{"cluster.name=k8s-east", "cluster.cloud=aws", "cluster.region=us-east-1", "identity.trustDomain=k8s.example.org"}

// variants of the chart: each is rendered, its configuration files are read as isthmus
// reads them, and its objects are made by a real API server.
var variants = map[string][]string{
	"load balancers": {"gateway.exposure.domain=gw.example.org", "gateway.http.caller=spiffe://k8s.example.org/apps"},
	"host ports": {
		"gateway.exposure.type=HostPort", "federation.storage.className=fast", "federation.kubernetes.config.namespace_selector=mesh=on",
		"federation.kubernetes.config.nodes.region_label=topology.kubernetes.io/region", "federation.kubernetes.sync.enabled=true", "federation.kubernetes.sync.config.service_entries.suffix=mesh",
	},
	"behind nat": {"gateway.exposure.type=None", "networkPolicy.enabled=false", "metrics.annotate=false", "federation.kubernetes.enabled=false"},
	"socket of the node": {
		"gateway.exposure.type=None", "identity.workloadAPI.mount=hostPath", "gateway.replicas=3", "image.tag=x", "imagePullSecrets[0].name=pull",
		"gateway.nodeSelector.role=edge", "federation.nodeSelector.role=control",
	},
	"replicas in Consul": {
		"gateway.exposure.type=None", "federation.replicas=2", "federation.settings.store.consul.address=127.0.0.1:8500",
		"federation.settings.store.consul.token_file=/secrets/consul/token", "federation.kubernetes.sync.enabled=true",
		"federation.extraVolumes[0].name=consul", "federation.extraVolumes[0].secret.secretName=consul-token",
		"federation.extraVolumeMounts[0].name=consul", "federation.extraVolumeMounts[0].mountPath=/secrets/consul",
	},
}

func TestChartMakesWhatAnAPIServerTakes(t *testing.T) {
	helm := tools.Require(t, "helm")
	chart := release(t).file(t, "isthmus_"+version+"_chart.tgz")
	plane, err := kubetest.Start(kubetest.Options{APIServer: tools.Require(t, "kube-apiserver"), Etcd: tools.Command(t, "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	source := extract(t, release(t), "isthmus-source")
	for name, values := range variants {
		t.Run(name, func(t *testing.T) {
			stores := 0
			if name == "replicas in Consul" {
				stores = 1 // begun by a hook
			}
			namespace := plane.Namespace(t, nil)
			out := render(t, helm, chart, namespace, values...)
			plane.Apply(t, out)
			t.Logf("figure: chart, %s: %d objects taken by the API server", name, configs(t, source, out, 2+stores))
		})
	}
}

func render(t *testing.T, helm, chart, namespace string, values ...string) []byte {
	t.Helper()
	args := []string{"template", "mesh", chart, "--namespace", namespace, "--kube-version", "1.37.2"}
	for _, v := range append(append([]string{}, least...), values...) {
		args = append(args, "--set", v)
	}
	return []byte(run(t, helm, args...))
}

// configs reads the files of the rendered ConfigMaps and counts the objects.
func configs(t *testing.T, source string, manifests []byte, want int) int {
	t.Helper()
	for name, value := range map[string]string{"POD_NAME": "gw-0", "POD_IP": "10.0.0.1", "HOST_IP": "10.1.0.1"} {
		t.Setenv(name, value)
	}
	objects, files := 0, 0
	for doc := range strings.SplitSeq(string(manifests), "\n---\n") {
		var o struct {
			Kind     string
			Metadata struct{ Namespace string }
			Data     map[string]string
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" {
			objects++
		}
		if text, ok := o.Data["isthmus.yaml"]; ok && o.Kind == "ConfigMap" {
			files++
			if _, err := config.Parse("isthmus.yaml", []byte(text)); err != nil {
				t.Errorf("the rendered file is refused: %v\n%s", err, text)
			}
		}
		for file, command := range map[string]string{"kubernetes.yaml": "kubernetes", "kubernetes-sync.yaml": "kubernetes-sync"} {
			if text, ok := o.Data[file]; ok {
				path := filepath.Join(t.TempDir(), file)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				run(t, source, command, "--check", "-c", path)
			}
		}
	}
	if files != want {
		t.Errorf("%d configuration files, want %d", files, want)
	}
	return objects
}

func TestChartRefusesWhatCannotWork(t *testing.T) {
	helm := tools.Require(t, "helm")
	chart, err := filepath.Abs("../../deploy/helm/isthmus")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		values []string
		want   string
	}{
		"a name that is no label":       {[]string{"cluster.name=East_1", "gateway.exposure.type=None"}, "/cluster/name"},
		"a load balancer without names": {nil, "/gateway/exposure/domain"},
		"replicas without Consul":       {[]string{"gateway.exposure.type=None", "federation.replicas=2"}, "federation.settings.store.consul"},
		"a key that is none":            {[]string{"gateway.exposure.type=None", "gateway.replica=2"}, "replica"},
		"a privileged port":             {[]string{"gateway.exposure.type=None", "gateway.port=443"}, "/gateway/port"},
	} {
		args := []string{"template", "mesh", chart, "--kube-version", "1.37.2"}
		for _, v := range append(append([]string{}, least...), c.values...) {
			args = append(args, "--set", v)
		}
		out, err := exec.CommandContext(t.Context(), helm, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, %s; want an error that names %s", name, err, out, c.want)
		}
	}
	lint := append([]string{"lint", "--strict", chart, "--kube-version", "1.37.2", "--set", "gateway.exposure.type=None"}, "--set", strings.Join(least, ","))
	run(t, helm, lint...)
	if _, err := os.Stat(filepath.Join(chart, "values.schema.json")); err != nil {
		t.Error(err)
	}
}
