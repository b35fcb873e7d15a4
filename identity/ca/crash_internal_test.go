package ca

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// numbers are the states.
var numbers = map[string]uint64{crashtest.Before: 1, crashtest.After: 2, crashtest.Later: 3} //nolint:gochecknoglobals // a constant

// numbered is a state by its number.
func numbered(n uint64, damage error) (state, said string) {
	if damage != nil {
		said = damage.Error()
	}
	for state, have := range numbers {
		if have == n {
			return state, said
		}
	}
	if n == 0 {
		return "", said
	}
	return fmt.Sprint(n), said
}

// numberedRoots are one root with a number.
func numberedRoots(t testing.TB, n uint64) roots {
	t.Helper()
	now := time.Now()
	a, err := newRoot(testDomain, now, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return roots{list: []root{a}, sequence: n}
}

func TestCrashRoots(t *testing.T) {
	crashtest.Run(t, crashtest.Case{
		Point: rootsPoint, Initial: true,
		Write: func(t testing.TB, dir, state string) error {
			return numberedRoots(t, numbers[state]).save(dir, testDomain)
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			r, damage, err := loadRoots(dir, testDomain)
			state, said = numbered(r.sequence, damage)
			return state, said, err
		},
	})
}

// Hosts and join tokens: a token is used up in the same write in which its host
// joins, so that the number is of both.
func TestCrashHosts(t *testing.T) {
	open := func(dir string) (*hosts, *damages, error) {
		d := &damages{}
		c := &CA{cfg: Config{Dir: dir}, metrics: newMetrics(), now: time.Now, log: slog.New(d)}
		h, err := loadHosts(c)
		return h, d, err
	}
	crashtest.Run(t, crashtest.Case{
		Point: hostsPoint, Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			h, _, err := open(dir)
			if err != nil {
				return err
			}
			return h.update(func(now time.Time) error {
				clear(h.tokens)
				clear(h.joined)
				for i := range numbers[state] {
					name := fmt.Sprint("host-", i)
					h.tokens[name] = tokenRecord{Digest: name, Expires: now.Add(time.Hour)}
					h.joined[name] = hostRecord{Name: name, Expires: now.Add(time.Hour)}
				}
				return nil
			})
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			h, d, err := open(dir)
			if err != nil {
				return "", "", err
			}
			if len(h.tokens) != len(h.joined) {
				return "torn", "", nil
			}
			state, said = numbered(uint64(len(h.joined)), d.err())
			return state, said, nil
		},
	})
}

func TestCrashFederated(t *testing.T) {
	other := testDomain // so that its roots fit
	crashtest.Run(t, crashtest.Case{
		Point: federatedPoint, Initial: true,
		Write: func(t testing.TB, dir, state string) error {
			doc, err := numberedRoots(t, numbers[state]).document(other, time.Minute)
			if err != nil {
				return err
			}
			f := &federation{dir: dir, files: []*federatedFile{{Federated: Federated{TrustDomain: other}, document: doc}}}
			return f.save()
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			f, damage, err := loadFederation(dir, []Federated{{TrustDomain: other}}, time.Now())
			if err != nil {
				return "", "", err
			}
			state, said = numbered(f.files[0].good.Sequence, damage)
			return state, said, nil
		},
	})
}

// The published bundle is for others, who judge it by themselves. It is written
// anew at every start.
func TestCrashBundle(t *testing.T) {
	crashtest.Run(t, crashtest.Case{
		Point: bundlePoint, Initial: true, Remade: true, Stride: 50,
		Write: func(t testing.TB, dir, state string) error {
			c := &CA{cfg: Config{TrustDomain: testDomain, CATTL: time.Hour}, metrics: newMetrics()}
			c.view.Store(&view{roots: numberedRoots(t, numbers[state])})
			return c.WriteBundle(filepath.Join(dir, "bundle.json"))
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			doc, err := os.ReadFile(filepath.Join(dir, "bundle.json"))
			if os.IsNotExist(err) {
				return "", "", nil
			}
			if err != nil {
				return "", "", err
			}
			b, err := identity.ParseBundle(testDomain, doc)
			state, _ = numbered(b.Sequence, nil)
			return state, "", err
		},
	})
}
