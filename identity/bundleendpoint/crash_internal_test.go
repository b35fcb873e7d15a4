package bundleendpoint

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The last good bundle of an endpoint. What it holds is judged where it is taken;
// here it is only to be whole.
func TestCrash(t *testing.T) {
	open := func(dir string) (*Follower, *bytes.Buffer) {
		var log bytes.Buffer
		return &Follower{
			opts: FollowerOptions{
				TrustDomain: spiffeid.RequireTrustDomainFromString("far.test"), File: filepath.Join(dir, "far"),
				Endpoint: Endpoint{URL: "https://far.test/"},
			},
			log: slog.New(slog.NewTextHandler(&log, nil)),
		}, &log
	}
	crashtest.Run(t, crashtest.Case{
		Point: keptPoint, Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			f, log := open(dir)
			if f.save([]byte(state), time.Unix(1, 0)); strings.Contains(log.String(), "is not kept") {
				return errors.New(log.String())
			}
			return nil
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			f, log := open(dir)
			k, err := f.readKept()
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return string(k.Document), log.String(), err
		},
	})
}
