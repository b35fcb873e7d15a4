package kubernetes_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	const text = `
server: http://10.0.0.1:6443
context: east
tls: {cert_file: a.pem}
region: us-east-1
namespaces: [shop, Shop, shop]
namespace_selector: "mesh in on"
service_selector: "a=="
protocol: udp
meta: ["a b"]
zone_ids: {us-east-1a: USE}
nodes: {}
surprise: 1
`
	var conf kubernetes.Config
	err := strictyaml.DecodeValid("kubernetes.yaml", []byte(text), &conf, func() error { return conf.Validate() })
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"server: must be https", "context: is one of a kubeconfig file", "tls: needs both", "tls: is for an https server", "region: locality",
		"namespaces[1]: must be a DNS label", "namespaces[2]: is given twice", "namespace_selector: must be a label selector",
		"namespace_selector: goes with all namespaces", "protocol: must be", "meta[0]:", "zone_ids.us-east-1a: must be a DNS label",
		"cloud: is missing", "surprise: unknown key", "kubernetes.yaml:2:1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
	for _, text := range []string{"kubeconfig: a\nserver: https://b", "cloud: aws"} {
		conf = kubernetes.Config{}
		if err := strictyaml.DecodeValid("k.yaml", []byte(text), &conf, func() error { return conf.Validate() }); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
	conf = kubernetes.Config{}
	good := "server: https://kubernetes.default.svc\ntoken_file: t\ntls: {ca_file: c}\ncloud: aws\nregion: us-east-1\nservice_selector: mesh!=off,tier in (a,b)\nnodes: {zone_label: topology.k8s.aws/zone-id}\n"
	if err := strictyaml.DecodeValid("k.yaml", []byte(good), &conf, func() error { return conf.Validate() }); err != nil {
		t.Error(err)
	}
}
