package kubernetes_test

import (
	"fmt"
	"os"
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
