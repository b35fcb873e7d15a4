package aws_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/providers/aws/awstest"
)

// shared is one moto for all tests of a run: it takes seconds to start, and tests
// keep apart by names of their own.
var shared struct {
	once sync.Once
	moto *awstest.Moto
	err  error
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(run{m}) }

// run says at its end what the tests ran against.
type run struct{ *testing.M }

func (r run) Run() int {
	code := r.M.Run()
	if shared.moto != nil {
		shared.moto.Stop()
		fmt.Fprintf(os.Stdout, "ran against: %s, with a proxy before it that breaks answers\n", awstest.Version(context.Background()))
	}
	if os.Getenv(realVariable) != "1" {
		fmt.Fprintf(os.Stdout, "did not run against: a real account (%s=1 does, see README.md)\n", realVariable)
	}
	return code
}

// moto is the endpoint of the shared server.
func moto(t *testing.T) string {
	t.Helper()
	bin := tools.External(t, "moto_server", awstest.How)
	shared.once.Do(func() {
		if shared.moto, shared.err = awstest.StartMoto(context.Background(), bin, 0); shared.err == nil {
			shared.err = shared.moto.HoldTasks(context.Background())
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.moto.URL
}
