package audit_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/audit"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The audit log: the state is the last entry that was asked for. Every entry
// begins a file, so that rotating and removing are steps, too.
func TestCrash(t *testing.T) {
	opts := func(dir string) audit.Options {
		return audit.Options{Dir: filepath.Join(dir, "audit"), FileBytes: 1, Files: 3}
	}
	crashtest.Run(t, crashtest.Case{
		Point: "audit", Initial: true, Times: 3, TornSaid: true,
		Write: func(_ testing.TB, dir, state string) error {
			l, err := audit.Open(opts(dir))
			if err != nil {
				return err
			}
			_, err = l.Append(audit.Entry{Phase: audit.Attempt, Principal: "local:0", Reason: state})
			return errors.Join(err, l.Close())
		},
		Read: func(t testing.TB, dir string) (state, said string, err error) {
			l, err := audit.Open(opts(dir))
			if err != nil {
				return "", "", err
			}
			defer func() { _ = l.Close() }()
			r, err := l.Verify(t.Context())
			if err != nil {
				return "", "", err
			}
			var told []string
			for _, p := range r.Problems {
				told = append(told, p.What)
			}
			entries, _, err := l.Page(t.Context(), audit.Position{}, 100, nil)
			for _, e := range entries {
				if e.Phase == audit.Attempt && state == "" {
					state = e.Reason
				}
				if e.Phase == audit.Repaired || e.Phase == audit.Damaged {
					told = append(told, e.Detail)
				}
			}
			return state, strings.Join(told, "; "), err
		},
	})
}
