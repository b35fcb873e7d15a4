package agent

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// What a host was given: the state is its name, which comes with its key.
func TestCrash(t *testing.T) {
	open := func(dir string) (*Agent, *bytes.Buffer) {
		var log bytes.Buffer
		return &Agent{
			cfg: Config{Dir: dir}, metrics: newMetrics(), now: time.Now,
			log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		}, &log
	}
	crashtest.Run(t, crashtest.Case{
		Point: statePoint, Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			a, _ := open(dir)
			key, der, err := newKey()
			if err != nil {
				return err
			}
			a.state.Host, a.state.Key, a.state.key = state, der, key
			return a.save()
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			a, log := open(dir)
			err = a.load()
			return a.state.Host, log.String(), err
		},
	})
}
