package terraform_test

import (
	"flag"
	"net/http"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets four tests run at once, whatever the number of processors: they mostly
// wait, for a load balancer's minute above all.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4") // at worst they take turns
	goleak.VerifyTestMain(closing{m})
}

// closing closes what the shared client keeps open, before leaks are looked for.
type closing struct{ m *testing.M }

func (c closing) Run() int {
	defer http.DefaultClient.CloseIdleConnections()
	return c.m.Run()
}
