package identity_test

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets all issuers run at once, whatever the number of processors: they
// spend their time waiting for certificates to age.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // at worst they take turns
	goleak.VerifyTestMain(m)
}

func uid() string { return strconv.Itoa(os.Getuid()) }
