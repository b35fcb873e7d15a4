package switches_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/switches"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

func set(reason string) *switches.Set {
	return &switches.Set{By: "ann", Reason: reason, At: time.Unix(1_800_000_000, 0).UTC()}
}

func TestSwitchesAreKept(t *testing.T) {
	dir := t.TempDir()
	if s, _, err := switches.Load(dir); err != nil || s.Any() {
		t.Fatalf("%+v, %v", s, err)
	}
	want := switches.State{Freeze: set("a"), Pin: &switches.Pin{Set: *set("b"), Place: "gcp/us-central1"}, FailoverOff: set("c")}
	if err := switches.Save(dir, want); err != nil {
		t.Fatal(err)
	}
	got, damage, err := switches.Load(dir)
	if err != nil || damage != nil || got.String() != want.String() || got.Routing().Pin != "gcp/us-central1" || !got.Routing().FailoverOff {
		t.Fatalf("%+v, %v, %v", got, damage, err)
	}
	info, err := os.Stat(filepath.Join(dir, "switches"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, part := range []string{"frozen by ann", "pinned to gcp/us-central1", "failover off", "(b)"} {
		if !strings.Contains(got.String(), part) {
			t.Errorf("%q lacks %q", got.String(), part)
		}
	}
}

func TestWhatCannotBeSet(t *testing.T) {
	for name, bad := range map[string]switches.State{
		"no reason": {Freeze: set(" ")}, "a long reason": {FailoverOff: set(strings.Repeat("x", switches.MaxReason+1))},
		"no place": {Pin: &switches.Pin{Set: *set("x")}}, "a bad place": {Pin: &switches.Pin{Set: *set("x"), Place: "A/b/c"}},
	} {
		if err := switches.Save(t.TempDir(), bad); err == nil {
			t.Errorf("%s can be set", name)
		}
	}
}

func TestADamagedFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "x", strings.Repeat("x", 100_000)} {
		if err := os.WriteFile(filepath.Join(dir, "switches"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := switches.Load(dir); err == nil {
			t.Errorf("%d bytes of nothing are switches", len(text))
		}
	}
}

// A crash leaves the old switches or the new ones.
func TestCrashOfTheSwitches(t *testing.T) {
	crashtest.Kills(t, crashtest.Case{
		Point: "gateway-switches", Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			return switches.Save(dir, switches.State{Freeze: set(state)})
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			s, damage, err := switches.Load(dir)
			if damage != nil {
				said = damage.Error()
			}
			if err != nil || s.Freeze == nil {
				return "", said, err
			}
			return s.Freeze.Reason, said, nil
		},
	})
}
