package mcs_test

import (
	"context"
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

// run stops the control plane before leaked goroutines are looked for.
type run struct{ *testing.M }

func (r run) Run() int {
	code := r.M.Run()
	if shared.plane != nil {
		shared.plane.Stop()
	}
	return code
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(run{m}) }
