package mcs_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// shared is the package's control plane, with the kinds of others in it.
var shared struct {
	once  sync.Once
	plane *kubetest.ControlPlane
	err   error
}

func plane(t *testing.T) *kubetest.ControlPlane {
	t.Helper()
	o := kubetest.Options{APIServer: tools.Require(t, "kube-apiserver"), Etcd: tools.Command(t, "etcd")}
	files := []string{
		tools.Manifest(t, "sigs.k8s.io/mcs-api", "config/crd/multicluster.x-k8s.io_serviceexports.yaml"),
		tools.Manifest(t, "sigs.k8s.io/mcs-api", "config/crd/multicluster.x-k8s.io_serviceimports.yaml"),
		tools.Manifest(t, "istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml"),
	}
	shared.once.Do(func() {
		if shared.plane, shared.err = kubetest.Start(o); shared.err == nil {
			shared.err = shared.plane.Definitions(context.Background(), files,
				"serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io", "serviceentries.networking.istio.io")
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.plane
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.plane != nil {
		shared.plane.Stop()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
