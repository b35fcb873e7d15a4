package exec_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
)

// partly publishes what it can read and reports what it cannot.
type partly struct {
	mu  sync.Mutex
	err error
}

func (p *partly) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *partly) Run(ctx context.Context, publish discovery.Publish) error {
	s, err := catalog.NewSnapshot("x", nil)
	if err != nil {
		return err
	}
	publish(s)
	<-ctx.Done()
	return nil
}

func (p *partly) LastRead() (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Time{}, p.err
}

// A snapshot is no sign of health where the source says that a part of it could not
// be read: the parent hears so at once, not at the next beat.
func TestAPublishedPartDoesNotHideTheTroubleOfAnother(t *testing.T) {
	for _, trouble := range []error{nil, errors.New("eu-west-1: throttled")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var out strings.Builder
			done := make(chan error, 1)
			go func() { done <- exec.Serve(ctx, exec.ServeOptions{Source: &partly{err: trouble}, Out: &out}) }()
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

// printed is what was printed so far, for a test that looks while it goes on.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// Trouble is told when it comes, once, and again as the sign of life.
func TestNewTroubleIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var out printed
		source, done := &partly{}, make(chan error, 1)
		go func() { done <- exec.Serve(ctx, exec.ServeOptions{Source: source, Out: &out}) }()
		time.Sleep(10 * time.Second)
		source.fail(errors.New("throttled"))
		time.Sleep(15 * time.Second) // the first beat is at 30s
		synctest.Wait()
		if n := strings.Count(out.String(), `{"error":{"message":"throttled"}}`); n != 1 {
			t.Errorf("told %d times before the beat: %s", n, out.String())
		}
		time.Sleep(10 * time.Second)
		source.fail(nil)
		time.Sleep(30 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), `"error"`); n != 2 || !strings.HasSuffix(out.String(), `{"unchanged":{}}`+"\n") {
			t.Errorf("told %d times, printed at last: %s", n, out.String())
		}
	})
}
