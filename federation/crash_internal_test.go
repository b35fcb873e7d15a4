package federation

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The last good state of a peer.
func TestCrashOfAPeersState(t *testing.T) {
	crashtest.Run(t, crashtest.Case{
		Point: peersPoint, Initial: true, Times: 3,
		Write: func(_ testing.TB, dir, state string) error {
			kept, err := store.NewLastGood(peersPoint, dir, "west")
			if err != nil {
				return err
			}
			return kept.Save([]byte(state))
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			kept, err := store.NewLastGood(peersPoint, dir, "west")
			if err != nil {
				return "", "", err
			}
			skipped, err := kept.Load(func(data []byte) error { state = string(data); return nil })
			if skipped != nil {
				said = kept.Damage().Error() // what Degraded tells
			}
			return state, said, err
		},
	})
}
