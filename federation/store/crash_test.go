package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// boltCase is the store's file or its journal: the state is one item, written
// together with a record, that must fit it.
func boltCase(point durable.Point) crashtest.Case {
	item := store.Key{Kind: "exports", Name: "state"}
	return crashtest.Case{
		Point: point, Initial: true, Stride: 331, // recover_test.go has every byte
		Write: func(t testing.TB, dir, state string) error {
			s, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(dir, "store.db")})
			if err != nil {
				return err
			}
			_, err = s.Apply(t.Context(),
				store.Write{Key: item, Value: []byte(state), Expect: store.Any},
				store.Write{Key: store.Key{Kind: store.ArchivePrefix + "log", Name: state}, Value: []byte(state), Expect: store.Any})
			if err == nil {
				// A journal that fails refuses nothing, and is told.
				err = errors.Join(noticed(s))
			}
			return errors.Join(err, s.Close())
		},
		Read: func(t testing.TB, dir string) (state, said string, err error) {
			s, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(dir, "store.db")})
			if err != nil {
				return "", "", err
			}
			defer func() { _ = s.Close() }()
			said = strings.Join(s.Notices(), "; ")
			got, err := s.Get(t.Context(), item)
			if errors.Is(err, store.ErrNotFound) {
				return "", said, nil
			}
			if err != nil {
				return "", said, err
			}
			state = string(got.Value)
			_, err = s.Get(t.Context(), store.Key{Kind: store.ArchivePrefix + "log", Name: state})
			return state, said, err
		},
	}
}

func noticed(s *store.Bolt) error {
	if n := s.Notices(); len(n) > 0 && !strings.Contains(n[0], "damaged and rebuilt") {
		return errors.New(strings.Join(n, "; "))
	}
	return nil
}

func TestCrashStore(t *testing.T) { crashtest.Run(t, boltCase("store")) }

func TestCrashJournal(t *testing.T) { crashtest.Run(t, boltCase("store-journal")) }

// The rebuilding of a damaged file from its journal is a write, too: each start
// of this case finds the file damaged.
func TestCrashWhileRebuilding(t *testing.T) {
	for _, point := range []durable.Point{"store", "store-journal"} {
		c := boltCase(point)
		write := c.Write
		c.Write = func(t testing.TB, dir, state string) error {
			if state == crashtest.After {
				damage(t, filepath.Join(dir, "store.db"))
			}
			return write(t, dir, state)
		}
		c.TornSaid = true // that it was rebuilt
		crashtest.Kills(t, c)
	}
}

// damage flips a byte of the file's records.
func damage(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		return // the first write
	}
	at := bytes.LastIndex(data, []byte(crashtest.Before))
	if at < 0 {
		t.Fatal("there is nothing to damage")
	}
	// In every page that has it: bbolt keeps old ones.
	data = bytes.ReplaceAll(data, []byte(crashtest.Before), []byte("bEfore"))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
