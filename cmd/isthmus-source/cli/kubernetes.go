package cli

import (
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

var kubernetesKind = kind{
	name:  "kubernetes",
	short: "Services and EndpointSlices of a Kubernetes cluster",
	long: `Read the Services of a Kubernetes cluster and their EndpointSlices, by list and watch.
What the API server must allow is in discovery/kubernetes/rbac.yaml. The other direction
(ServiceExport, ServiceImport) is isthmus-source kubernetes-sync.`,
	open: openKubernetes,
}

func openKubernetes(path string, o options) (discovery.Source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var conf kubernetes.Config
	if err := strictyaml.DecodeValid(path, data, &conf, func() error { return conf.Validate() }); err != nil {
		return nil, err
	}
	return kubernetes.New(kubernetes.Options{Name: o.name, Config: conf, Log: o.log, Registerer: o.registerer})
}
