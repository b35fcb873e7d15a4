package federation

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The last good state of a peer.
func TestCrashOfAPeersState(t *testing.T) {
	crashLastGood(t, crashtest.Case{Point: peersPoint}, "west")
}

// The last good price book.
func TestCrashOfThePriceBook(t *testing.T) {
	crashLastGood(t, crashtest.Case{Point: pricesPoint}, "book")
}

// The account of what was spent.
func TestCrashOfTheSpendAccount(t *testing.T) {
	crashLastGood(t, crashtest.Case{Point: spendPoint}, "account")
}

// crashLastGood completes a case of a state that is kept with those before it.
func crashLastGood(t *testing.T, c crashtest.Case, name string) {
	t.Helper()
	c.Initial, c.Times = true, 3
	c.Write = func(_ testing.TB, dir, state string) error {
		kept, err := store.NewLastGood(c.Point, dir, name)
		if err != nil {
			return err
		}
		return kept.Save([]byte(state))
	}
	c.Read = func(_ testing.TB, dir string) (state, said string, err error) {
		kept, err := store.NewLastGood(c.Point, dir, name)
		if err != nil {
			return "", "", err
		}
		skipped, err := kept.Load(func(data []byte) error { state = string(data); return nil })
		if skipped != nil {
			said = kept.Damage().Error() // what Degraded tells
		}
		return state, said, err
	}
	crashtest.Run(t, c)
}
