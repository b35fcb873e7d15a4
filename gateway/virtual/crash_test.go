package virtual_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/virtual"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// order are the states: each assigns one service more.
var order = []string{crashtest.Before, crashtest.After, crashtest.Later} //nolint:gochecknoglobals // a constant

func TestCrash(t *testing.T) {
	read := func(dir string) (*virtual.Book, string, error) {
		var log bytes.Buffer
		b, err := virtual.Open(virtual.BookOptions{
			Range: netip.MustParsePrefix("10.0.0.0/16"), Path: filepath.Join(dir, "addresses"),
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
		})
		return b, log.String(), err
	}
	crashtest.Run(t, crashtest.Case{
		Point: "gateway-addresses", Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			b, _, err := read(dir)
			if err != nil {
				return err
			}
			for _, s := range order {
				if _, err := b.Assign(key(s)); err != nil {
					return err
				}
				if s == state {
					break
				}
			}
			return b.Err()
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			b, said, err := read(dir)
			if err != nil {
				return "", said, err
			}
			n, _ := b.Size()
			for i := range n {
				if _, ok := b.Of(key(order[i])); !ok {
					return fmt.Sprintf("%d without %s", n, order[i]), said, nil
				}
				state = order[i]
			}
			return state, said, nil
		},
	})
}
