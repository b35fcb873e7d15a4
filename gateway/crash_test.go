package gateway_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The reset key is made once: there is none, or one that lasts.
func TestCrashOfTheResetKey(t *testing.T) {
	crashtest.Kills(t, crashtest.Case{
		Point: "gateway-reset-key", Once: true,
		Write: func(_ testing.TB, dir, _ string) error {
			_, err := gateway.ResetKey(dir, slog.New(slog.DiscardHandler))
			return err
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			if _, err := os.Stat(filepath.Join(dir, "reset.key")); os.IsNotExist(err) {
				return "", "", nil
			}
			first, err := gateway.ResetKey(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				return "", "", err
			}
			again, err := gateway.ResetKey(dir, slog.New(slog.DiscardHandler))
			if err != nil || *again != *first {
				return "another at each start", "", err
			}
			return crashtest.After, "", nil
		},
	})
}

// A flipped byte of the key costs nothing and is told, and the file is whole again.
func TestAFlippedByteOfTheResetKey(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	key, err := gateway.ResetKey(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "reset.key")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		got, err := gateway.ResetKey(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || *got != *key || !bytes.Contains(log.Bytes(), []byte("reset key was damaged")) {
			t.Fatalf("byte %d: the same key: %t, %v, log %s", i, err == nil && *got == *key, err, &log)
		}
		if mended, err := os.ReadFile(path); err != nil || !bytes.Equal(mended, whole) {
			t.Fatalf("byte %d: the file stays damaged, %v", i, err)
		}
	}
}
