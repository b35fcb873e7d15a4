package tablestore_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// versions are the states as tables.
var versions = map[string]uint64{crashtest.Before: 1, crashtest.After: 2, crashtest.Later: 3} //nolint:gochecknoglobals // a constant

func TestCrash(t *testing.T) {
	crashtest.Run(t, crashtest.Case{
		Point: "gateway-tables", Initial: true, Times: tablestore.Keep,
		Write: func(_ testing.TB, dir, state string) error {
			s, err := tablestore.Open(filepath.Join(dir, "tables"), "alpha")
			if err != nil {
				return err
			}
			return s.Save(table(versions[state]))
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			s, err := tablestore.Open(filepath.Join(dir, "tables"), "alpha")
			if err != nil {
				return "", "", err
			}
			got, skipped, err := s.Load()
			var told []error
			for _, s := range skipped {
				told = append(told, s.Err)
			}
			if err := errors.Join(told...); err != nil {
				said = err.Error()
			}
			if got == nil {
				return "", said, err
			}
			for state, v := range versions {
				if got.Version == v {
					return state, said, err
				}
			}
			return fmt.Sprint(got.Version), said, err
		},
	})
}
