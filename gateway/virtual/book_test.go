package virtual_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(service string) virtual.Key {
	return virtual.Key{Service: catalog.MustServiceName(service)}
}

// clock is a time that tests set.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func open(t testing.TB, path, prefix string, c *clock) *virtual.Book {
	t.Helper()
	b, err := virtual.Open(virtual.BookOptions{Range: netip.MustParsePrefix(prefix), Path: path, Now: func() time.Time { return c.at }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func assign(t testing.TB, b *virtual.Book, k virtual.Key) netip.Addr {
	t.Helper()
	a, err := b.Assign(k)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAddressesAreTheSameEverywhereAndForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	one, other := open(t, path, "127.77.0.0/16", newClock()), open(t, filepath.Join(t.TempDir(), "addresses"), "127.77.0.0/16", newClock())
	pinned := virtual.Key{Service: catalog.MustServiceName("web"), Cluster: "beta"}
	for _, k := range []virtual.Key{key("web"), pinned, key("db.shop")} {
		a := assign(t, one, k)
		if b := assign(t, other, k); a != b {
			t.Errorf("%s: %s here, %s there", k, a, b)
		}
		if !netip.MustParsePrefix("127.77.0.0/16").Contains(a) {
			t.Errorf("%s: %s is not of the range", k, a)
		}
	}
	again := open(t, path, "127.77.0.0/16", newClock())
	for _, k := range []virtual.Key{key("web"), pinned, key("db.shop")} {
		have, ok := again.Of(k)
		if want := assign(t, one, k); !ok || have != want {
			t.Errorf("%s: %s, after a restart %s (%t)", k, want, have, ok)
		}
		if back, ok := again.At(have); !ok || back != k {
			t.Errorf("%s belongs to %s", have, back)
		}
	}
	if assign(t, one, key("web")) == assign(t, one, pinned) {
		t.Error("a pinned name has the address of the one that is not")
	}
}

// TestNoTwoServicesHaveOneAddress: services want the same address in a small range; each has its own
// all the same, and keeps it whatever order a restart reads them in.
func TestNoTwoServicesHaveOneAddress(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "book-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path, c := filepath.Join(dir, "addresses"), newClock()
		b := open(t, path, "10.0.0.0/28", c) // 14
		owner := map[netip.Addr]virtual.Key{}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			k := key(fmt.Sprintf("s%d", rapid.IntRange(0, 13).Draw(rt, "service")))
			a, err := b.Assign(k)
			if err != nil {
				rt.Fatal(err)
			}
			if had, taken := owner[a]; taken && had != k {
				rt.Fatalf("%s is %s's and %s's", a, had, k)
			}
			owner[a] = k
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				b = open(t, path, "10.0.0.0/28", c)
			}
		}
		for a, k := range owner {
			if got, err := b.Assign(k); err != nil || got != a {
				rt.Fatalf("%s had %s, now %s, %v", k, a, got, err)
			}
		}
	})
}

func TestAnExhaustedRangeSaysWhatToDo(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "addresses")
	b := open(t, path, "10.0.0.0/29", c)
	for i := range 6 {
		assign(t, b, key(fmt.Sprintf("s%d", i)))
	}
	if n, all := b.Size(); n != 6 || all != 6 {
		t.Fatalf("%d of %d", n, all)
	}
	_, err := b.Assign(key("more"))
	if !errors.Is(err, virtual.ErrExhausted) || !strings.Contains(err.Error(), "all 6 of 10.0.0.0/29") || !strings.Contains(err.Error(), "2026-01-31") {
		t.Fatalf("%v", err)
	}
	// s0 is gone; the others are seen every day.
	gone, others := key("s0"), func(k virtual.Key) bool { return k != key("s0") }
	freed, _ := b.Of(gone)
	for range 29 {
		c.at = c.at.Add(24 * time.Hour)
		b.Seen(others)
		if _, err := b.Assign(key("more")); !errors.Is(err, virtual.ErrExhausted) {
			t.Fatalf("after %v: %v", c.at, err)
		}
	}
	if a := assign(t, b, gone); a != freed {
		t.Fatal("who comes back has another address")
	}
	b = open(t, path, "10.0.0.0/29", c) // the times last
	c.at = c.at.Add(24 * time.Hour)
	b.Seen(others)
	if a := assign(t, b, key("more")); a != freed {
		t.Fatalf("%s, want that of the service that is gone, %s", a, freed)
	}
	if _, ok := b.Of(gone); ok {
		t.Error("the service that is gone has an address still")
	}
	if _, err := b.Assign(gone); !errors.Is(err, virtual.ErrExhausted) {
		t.Errorf("%v", err)
	}
}

func TestAFreeAddressIsTakenBeforeAUsedOne(t *testing.T) {
	c := newClock()
	b := open(t, filepath.Join(t.TempDir(), "addresses"), "10.0.0.0/29", c)
	old := assign(t, b, key("old"))
	c.at = c.at.Add(365 * 24 * time.Hour)
	for i := range 5 {
		if a := assign(t, b, key(fmt.Sprintf("s%d", i))); a == old {
			t.Fatal("given again though others were free")
		}
	}
}

func TestAnotherRangeLeavesOutWhatIsNotOfIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	b := open(t, path, "10.0.0.0/24", newClock())
	for i := range 40 {
		assign(t, b, key(fmt.Sprintf("s%d", i)))
	}
	half := open(t, path, "10.0.0.0/25", newClock())
	for i := range 40 {
		was, _ := b.Of(key(fmt.Sprintf("s%d", i)))
		now := assign(t, half, key(fmt.Sprintf("s%d", i)))
		inside := netip.MustParsePrefix("10.0.0.0/25").Contains(was) && was != netip.MustParseAddr("10.0.0.127")
		if inside && was != now || !netip.MustParsePrefix("10.0.0.0/25").Contains(now) {
			t.Errorf("s%d: %s became %s", i, was, now)
		}
	}
}

func TestManyAtOnceAndAFullDisk(t *testing.T) {
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "addresses"), "fd00:77::/64", newClock())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := b.Assign(key(fmt.Sprintf("s%d", i%50))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	again := open(t, filepath.Join(dir, "addresses"), "fd00:77::/64", newClock())
	if n, _ := again.Size(); n != 50 || b.Err() != nil {
		t.Fatalf("%d of 50 are on disk, %v", n, b.Err())
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if a := assign(t, b, key("late")); !a.IsValid() || b.Err() == nil {
		t.Fatalf("%s, %v", a, b.Err())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.Seen(func(virtual.Key) bool { return true }) // tries again
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
}

func TestADamagedBookIsToldAndBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	want := assign(t, open(t, path, "10.0.0.0/16", newClock()), key("web"))
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b, err := virtual.Open(virtual.BookOptions{Range: netip.MustParsePrefix("10.0.0.0/16"), Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil || !strings.Contains(log.String(), "were damaged") {
		t.Fatalf("%v, log %s", err, &log)
	}
	if a := assign(t, b, key("web")); a != want {
		t.Errorf("%s, before %s", a, want)
	}
}

func TestRanges(t *testing.T) {
	for prefix, good := range map[string]bool{
		"127.77.0.0/16": true, "198.18.0.0/15": true, "10.0.0.0/29": true, "fd00::/64": true, "fd00::/125": true,
		"127.0.0.0/8": false, "10.0.0.0/30": false, "10.0.0.1/24": false, "224.0.0.0/8": false, "0.0.0.0/0": false, "::/0": false,
		"::1/128": false, "ff02::/64": false, "::ffff:10.0.0.0/112": false, "255.255.255.0/24": false,
	} {
		p, err := netip.ParsePrefix(prefix)
		if rule := virtual.CheckRange(p); err != nil || (rule == "") != good {
			t.Errorf("%s: %q, %v", prefix, rule, err)
		}
	}
	if virtual.CheckRange(netip.Prefix{}) == "" {
		t.Error("the zero value is a range")
	}
}
