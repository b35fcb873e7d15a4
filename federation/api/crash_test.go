package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// The API's token. The first one is made by the program; the others are put there
// by hand, and what the program writes of them is the copy.
func TestCrash(t *testing.T) {
	tokens := map[string]string{}
	for _, state := range []string{crashtest.Before, crashtest.After, crashtest.Later} {
		tokens[state] = strings.Repeat(state[:1], 40)
	}
	crashtest.Run(t, crashtest.Case{
		Point: "api-token",
		Write: func(_ testing.TB, dir, state string) error {
			path := filepath.Join(dir, "api.token")
			if err := os.WriteFile(path, []byte(tokens[state]+"\n"), 0o600); err != nil {
				return err
			}
			_, damage, err := api.LoadToken(path)
			if err == nil {
				err = damage // there is no copy
			}
			return err
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			token, damage, err := api.LoadToken(filepath.Join(dir, "api.token"))
			if damage != nil && !strings.Contains(damage.Error(), "there is no copy") {
				said = damage.Error()
			}
			for state, t := range tokens {
				if t == token {
					return state, said, err
				}
			}
			return token, said, err
		},
	})
}

// The token that the program makes is there whole or not at all, and lasts.
func TestCrashOfTheFirstToken(t *testing.T) {
	crashtest.Kills(t, crashtest.Case{
		Point: "api-token", Once: true,
		Write: func(_ testing.TB, dir, _ string) error {
			_, _, err := api.LoadToken(filepath.Join(dir, "api.token"))
			return err
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			first, _, err := api.LoadToken(filepath.Join(dir, "api.token"))
			if err != nil {
				return "", "", err
			}
			again, damage, err := api.LoadToken(filepath.Join(dir, "api.token"))
			if err != nil || damage != nil || again != first {
				return "", "the token changes", err
			}
			return crashtest.After, "", nil
		},
	})
}
