package audit_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/audit"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// crashDir makes the test binary append until it is killed.
const crashDir = "ISTHMUS_TEST_AUDIT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForEver(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func appendForEver(dir string) {
	l, err := audit.Open(audit.Options{Dir: dir, FileBytes: 64 << 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		e, err := l.Append(audit.Entry{Phase: audit.Attempt, Principal: "local:0", Reason: strings.Repeat("why ", 20)})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("kept", e.Sequence)
	}
}

func open(t *testing.T, dir string, change ...func(*audit.Options)) *audit.Log {
	t.Helper()
	opts := audit.Options{Dir: dir, Now: func() time.Time { return time.Unix(1_700_000_000, 0) }, Registerer: prometheus.NewRegistry()}
	for _, f := range change {
		f(&opts)
	}
	l, err := audit.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(audit.Entry{Phase: audit.Attempt, RequestID: fmt.Sprint("r", i), Principal: "local:0", Operation: "create-export"}); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t *testing.T, dir string) *audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestChainGoesOnOverFilesAndRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	small := func(o *audit.Options) { o.FileBytes = 2000 }
	l := open(t, dir, small)
	add(t, l, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(audit.Entry{}); !errors.Is(err, audit.ErrClosed) || !errors.Is(err, audit.ErrNotWritable) {
		t.Errorf("after Close: %v", err)
	}
	l = open(t, dir, small)
	add(t, l, 20)
	r := verify(t, dir)
	if !r.Intact || r.Entries != 40 || r.First != 1 || r.Last != 40 || r.Files < 3 {
		t.Errorf("%+v", r)
	}
	if own, err := l.Verify(t.Context()); err != nil || own.Head != r.Head || !own.Intact {
		t.Errorf("%+v, %v", own, err)
	}
	for _, f := range append(files(t, dir), dir) {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", f, info.Mode(), err)
		}
	}
}

func TestOldFilesAreDropped(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *audit.Options) { o.FileBytes, o.Files = 1000, 3 })
	add(t, l, 50)
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files, want 3", n)
	}
	if r := verify(t, dir); !r.Intact || r.First == 1 || r.Last != 50 {
		t.Errorf("what is left does not verify: %+v", r)
	}
}

// Any byte that changes is found, wherever it is.
func TestEveryFlippedByteIsFound(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir), 3)
	path := files(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, dir); r.Intact {
				t.Fatalf("byte %d (%q) changed to %q is not found", i, good[i], bad[i])
			}
		}
	}
	t.Logf("figure: %d changes of single bytes in %d bytes found", 3*len(good), len(good))
}

// Lines that go, come or change places are found: each is sound by itself.
func TestEveryChangeOfLinesIsFound(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir), 5)
	path := files(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(good), "\n"), "\n")
	lines[4] += "\n"
	forged := func() string {
		e, err := audit.Decode([]byte(strings.TrimSuffix(lines[2], "\n")))
		if err != nil {
			t.Fatal(err)
		}
		e.Principal = "somebody else"
		line, _, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	for name, c := range map[string][]string{
		"first removed":   lines[1:],
		"middle removed":  {lines[0], lines[1], lines[3], lines[4]},
		"two exchanged":   {lines[0], lines[2], lines[1], lines[3], lines[4]},
		"one repeated":    {lines[0], lines[1], lines[1], lines[2], lines[3], lines[4]},
		"one forged":      {lines[0], lines[1], forged(), lines[3], lines[4]},
		"an empty line":   {lines[0], "\n", lines[1], lines[2], lines[3], lines[4]},
		"a huge line":     {lines[0], strings.Repeat("x", audit.MaxLine+10) + "\n", lines[1], lines[2], lines[3], lines[4]},
		"end of line cut": {lines[0], lines[1], lines[2], lines[3], strings.TrimSuffix(lines[4], "\n")},
	} {
		if err := os.WriteFile(path, []byte(strings.Join(c, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); r.Intact || r.Problems[0].What == "" || r.Problems[0].Line == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// What the chain cannot show: the report's head does.
	whole := verifyOf(t, dir, path, good)
	short := verifyOf(t, dir, path, []byte(strings.Join(lines[:4], "")))
	if !short.Intact || short.Head == whole.Head {
		t.Errorf("%+v, whole %+v", short, whole)
	}
}

func verifyOf(t *testing.T, dir, path string, content []byte) *audit.Report {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return verify(t, dir)
}

func TestMissingFileIsFound(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir, func(o *audit.Options) { o.FileBytes = 900 }), 12)
	all := files(t, dir)
	if err := os.Remove(all[1]); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); r.Intact {
		t.Errorf("%+v", r)
	}
}

// A crash may cut the last line off anywhere.
func TestCrashInTheMiddleOfALine(t *testing.T) {
	master := t.TempDir()
	add(t, open(t, master), 3)
	good, err := os.ReadFile(files(t, master)[0])
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(good[:len(good)-1], '\n') + 1
	for cut := last + 1; cut < len(good); cut++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(files(t, master)[0])), good[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); r.Intact {
			t.Fatalf("cut at %d: not found", cut)
		}
		l := open(t, dir)
		add(t, l, 1)
		got, _, err := l.Page(t.Context(), audit.Position{}, 10, nil)
		if err != nil || len(got) != 4 || got[1].Phase != audit.Repaired || got[1].Detail == "" || got[0].Sequence != 4 {
			t.Fatalf("cut at %d: %+v, %v", cut, got, err)
		}
		if r := verify(t, dir); !r.Intact || r.Last != 4 {
			t.Fatalf("cut at %d, after the repair: %+v", cut, r)
		}
		_ = l.Close()
	}
	t.Logf("figure: a line cut off at each of %d places repaired and told", len(good)-last-1)
}

// A log whose only line is cut off begins anew, and says so.
func TestCrashInTheFirstLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "audit-00000000000000000001.jsonl"), []byte(`{"seq`), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, open(t, dir), 1)
	if r := verify(t, dir); !r.Intact || r.Entries != 2 {
		t.Errorf("%+v", r)
	}
}

// Damage that no crash does is left for whoever investigates.
func TestDamageIsLeftAndTold(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	add(t, l, 5)
	_ = l.Close()
	path := files(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{20, len(good) / 2, len(good) - 20} { // in the first, a middle and the last line
		bad := bytes.Clone(good)
		bad[at] ^= 1
		for _, f := range files(t, dir) {
			_ = os.Remove(f)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir)
		add(t, l, 1)
		_ = l.Close()
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("byte %d: the damaged file was changed, %v", at, err)
		}
		r := verify(t, dir)
		if r.Intact || len(r.Problems) != 1 || r.Files != 2 {
			t.Errorf("byte %d: %+v", at, r)
		}
		l = open(t, dir)
		got, _, err := l.Page(t.Context(), audit.Position{}, 2, nil)
		if err != nil || got[1].Phase != audit.Damaged || !strings.Contains(got[1].Detail, filepath.Base(path)) {
			t.Errorf("byte %d: %+v, %v", at, got, err)
		}
		_ = l.Close()
	}
}

// A disk that is full refuses entries, and the file stays sound.
func TestDiskFull(t *testing.T) {
	full, err := durable.Point("test").Open("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full here: %v", err)
	}
	defer func() { _ = full.Close() }()
	dir := t.TempDir()
	l := open(t, dir)
	add(t, l, 2)
	out := l.SetOut(full)
	for range 3 {
		if _, err := l.Append(audit.Entry{Phase: audit.Attempt}); !errors.Is(err, audit.ErrNotWritable) {
			t.Fatalf("a full disk: %v", err)
		}
	}
	if l.Writable() == nil {
		t.Error("a log that takes nothing says that it does")
	}
	l.SetOut(out)
	add(t, l, 2)
	if err := l.Writable(); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	if r := verify(t, dir); !r.Intact || r.Last != 4 {
		t.Errorf("%+v", r)
	}
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(audit.Options{Dir: dir}); err == nil {
		t.Error("a file in the place of the directory")
	}
}

// What was acknowledged before a kill is there after it.
func TestKilledWhileAppending(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, kept := t.TempDir(), uint64(0)
	const rounds = 8
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(out)
		for range 100 + 37*round {
			if !in.Scan() {
				t.Fatal("the child has ended")
			}
			if _, err := fmt.Sscanf(in.Text(), "kept %d", &kept); err != nil {
				t.Fatal(in.Text())
			}
		}
		_ = cmd.Process.Kill()
		for in.Scan() { // acknowledged before the kill, read after it
			_, _ = fmt.Sscanf(in.Text(), "kept %d", &kept)
		}
		_ = cmd.Wait()
		l := open(t, dir)
		got, _, err := l.Page(t.Context(), audit.Position{}, 1, nil)
		if err != nil || len(got) != 1 || got[0].Sequence < kept {
			t.Fatalf("round %d: entry %d was acknowledged, the newest is %+v, %v", round, kept, got, err)
		}
		_ = l.Close()
		if r := verify(t, dir); !r.Intact {
			t.Fatalf("round %d: %+v", round, r)
		}
	}
	t.Logf("figure: %d kills, %d acknowledged entries, none lost", rounds, kept)
}

func TestAppendTogether(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *audit.Options) { o.FileBytes = 100 << 10 })
	const writers, each = 32, 50
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for range writers {
		wg.Go(func() {
			for range each {
				e, err := l.Append(audit.Entry{Phase: audit.Attempt})
				mu.Lock()
				if err != nil || seen[e.Sequence] || e.Hash == "" {
					t.Errorf("%+v, %v", e, err)
				}
				seen[e.Sequence] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("figure: %d entries of %d writers at once in %v, each flushed before it was acknowledged", writers*each, writers, time.Since(began))
	if r := verify(t, dir); !r.Intact || r.Last != writers*each {
		t.Errorf("%+v", r)
	}
}
