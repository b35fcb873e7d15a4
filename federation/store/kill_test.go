package store_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// killedStore names the file that a child process of this test writes to.
const killedStore = "ISTHMUS_TEST_KILLED_STORE"

const kills = 200

// The child: writes a counter and its record in one transaction, and says each
// number once it is acknowledged, until it is killed.
func TestWriteUntilKilled(t *testing.T) {
	path := os.Getenv(killedStore)
	if path == "" {
		t.Skip("runs as a child of TestKillAtAnyMoment")
	}
	s, err := store.OpenBolt(store.BoltOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	key := store.Key{Kind: "state", Name: "n"}
	n := 0
	if item, err := s.Get(t.Context(), key); err == nil {
		n, _ = strconv.Atoi(string(item.Value))
	}
	for {
		n++
		_, err := s.Apply(t.Context(),
			store.Write{Key: key, Value: fmt.Append(nil, n), Expect: store.Any},
			store.Write{Key: store.Key{Kind: store.ArchivePrefix + "log", Name: fmt.Sprintf("%08d", n)}, Value: fmt.Append(nil, n), Expect: store.Absent})
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("ack", n)
	}
}

// kill -9 at random moments, from the opening of the file on: what was
// acknowledged is there, a transaction is there whole or not at all, and no start
// finds anything damaged.
func TestKillAtAnyMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	random := rand.New(rand.NewPCG(3, 5))
	acked := 0
	for round := range kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriteUntilKilled$")
		cmd.Env = append(os.Environ(), killedStore+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.IntN(40_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			if word == "error" {
				t.Errorf("round %d: %s", round, rest)
			}
			if n, err := strconv.Atoi(rest); word == "ack" && err == nil {
				acked = n
			}
		}
		_ = cmd.Wait() // killed
		timer.Stop()
		if round%20 == 19 || t.Failed() {
			judgeKilled(t, path, acked)
		}
	}
	t.Logf("figure: %d kills at random moments, %d acknowledged transactions, 0 lost, 0 torn", kills, acked)
	if acked == 0 {
		t.Error("nothing was ever written")
	}
}

func judgeKilled(t *testing.T, path string, acked int) {
	t.Helper()
	s, err := store.OpenBolt(store.BoltOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if n := s.Notices(); len(n) > 0 {
		t.Fatalf("a kill has damaged the store: %q", n)
	}
	n := 0
	if item, err := s.Get(t.Context(), store.Key{Kind: "state", Name: "n"}); err == nil {
		n, _ = strconv.Atoi(string(item.Value))
	}
	if n < acked {
		t.Fatalf("the store is at %d, %d was acknowledged", n, acked)
	}
	records := 0
	for after := ""; ; {
		page, err := s.Scan(t.Context(), store.ArchivePrefix+"log", after, store.MaxScan)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		records += len(page)
		after = page[len(page)-1].Key.Name
	}
	if records != n {
		t.Fatalf("the store is at %d and has %d records", n, records)
	}
}
