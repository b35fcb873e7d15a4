package ca_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"
)

// childSocket names the Workload API that a child process of a test asks; it prints
// the IDs that it gets. Only another process can have another uid.
const childSocket = "ISTHMUS_TEST_WORKLOAD_API"

func TestMain(m *testing.M) {
	if address := os.Getenv(childSocket); address != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		svids, err := workloadapi.FetchX509SVIDs(ctx, workloadapi.WithAddr(address))
		for _, svid := range svids {
			fmt.Println(svid.ID)
		}
		if err != nil {
			fmt.Println(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
