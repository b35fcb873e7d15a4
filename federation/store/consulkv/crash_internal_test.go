package consulkv

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The copy of Consul's items, read as a start without Consul reads it.
func TestCrashOfTheCopy(t *testing.T) {
	item := store.Key{Kind: "exports", Name: "state"}
	crashtest.Run(t, crashtest.Case{
		Point: copyPoint, Initial: true, Times: 3, Stride: 7, // each is an attempt to reach Consul
		Write: func(_ testing.TB, dir, state string) error {
			cache, err := store.NewLastGood(copyPoint, dir, "items")
			if err != nil {
				return err
			}
			items := map[store.Key]store.Item{
				item: {Key: item, Value: []byte(state), Revision: 1}, marker(): {Key: marker(), Value: []byte(`{"format":1}`), Revision: 1},
			}
			var log strings.Builder
			s := &Store{cache: cache, mem: store.NewMemory(items, 1), log: slog.New(slog.NewTextHandler(&log, nil))}
			s.life, s.end = context.WithCancel(context.Background())
			defer s.end()
			if s.save(); log.Len() > 0 {
				return errors.New(log.String())
			}
			return nil
		},
		Read: func(t testing.TB, dir string) (state, said string, err error) {
			nobody := Config{Address: strictyaml.OneOrMore{"127.0.0.1:1"}, RequestTimeout: time.Second}
			s, err := Open(t.Context(), Options{Config: nobody, CacheDir: dir})
			if err != nil && strings.Contains(err.Error(), "there is no last good copy") {
				return "", "", nil
			}
			if err != nil {
				return "", "", err
			}
			notices := s.Notices()
			got, err := s.Get(t.Context(), item)
			s.end() // without the copy that Close would make
			s.client.http.CloseIdleConnections()
			return string(got.Value), strings.Join(notices[:len(notices)-1], "; "), err // the last: Consul is not there
		},
	})
}
