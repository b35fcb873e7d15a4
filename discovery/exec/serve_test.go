package exec_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

// partly publishes what it can read and reports what it cannot.
type partly struct{ err error }

func (p *partly) Run(ctx context.Context, publish discovery.Publish) error {
	s, err := catalog.NewSnapshot("x", nil)
	if err != nil {
		return err
	}
	publish(s)
	<-ctx.Done()
	return nil
}

func (p *partly) LastRead() (time.Time, error) { return time.Time{}, p.err }

// A snapshot is no sign of health where the source says that a part of it could not
// be read: the parent hears so at once, not at the next beat.
func TestAPublishedPartDoesNotHideTheTroubleOfAnother(t *testing.T) {
	for _, trouble := range []error{nil, errors.New("eu-west-1: throttled")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var out strings.Builder
			done := make(chan error, 1)
			go func() { done <- exec.Serve(ctx, exec.ServeOptions{Source: &partly{trouble}, Out: &out}) }()
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			if trouble == nil && !strings.HasPrefix(last, `{"commit"`) || trouble != nil && !strings.HasPrefix(last, `{"error":{"message":"eu-west-1: throttled"`) {
				t.Errorf("printed last %s", last)
			}
		})
	}
}
