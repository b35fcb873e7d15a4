package kubernetes_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubetest"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// shared is the package's control plane: starting one takes seconds.
var shared struct {
	once  sync.Once
	plane *kubetest.ControlPlane
	err   error
}

func plane(t *testing.T) *kubetest.ControlPlane {
	t.Helper()
	o := kubetest.Options{APIServer: tools.Require(t, "kube-apiserver"), Etcd: tools.Command(t, "etcd")}
	shared.once.Do(func() { shared.plane, shared.err = kubetest.Start(o) })
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
