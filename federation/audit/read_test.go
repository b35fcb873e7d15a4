package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/audit"
)

func TestPagesGoBackOverFiles(t *testing.T) {
	l := open(t, t.TempDir(), func(o *audit.Options) { o.FileBytes = 3000 })
	if got, next, err := l.Page(t.Context(), audit.Position{}, 10, nil); err != nil || len(got) != 0 || next != (audit.Position{}) {
		t.Errorf("an empty log: %v %v %v", got, next, err)
	}
	const n = 57
	for i := range n {
		who := "local:0"
		if i%5 == 0 {
			who = "token"
		}
		if _, err := l.Append(audit.Entry{Principal: who, RequestID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 7, 10, n, 1000} {
		want := uint64(n)
		from := audit.Position{}
		for pages := 0; ; pages++ {
			got, next, err := l.Page(t.Context(), from, limit, nil)
			if err != nil || len(got) == 0 || len(got) > limit || pages > n {
				t.Fatalf("limit %d: %d entries, %v", limit, len(got), err)
			}
			for _, e := range got {
				if e.Sequence != want {
					t.Fatalf("limit %d: entry %d, want %d", limit, e.Sequence, want)
				}
				want--
			}
			if from = next; next == (audit.Position{}) {
				break
			}
		}
		if want != 0 {
			t.Errorf("limit %d: %d entries are missing", limit, want)
		}
	}
	got, _, err := l.Page(t.Context(), audit.Position{}, 100, func(e *audit.Entry) bool { return e.Principal == "token" })
	if err != nil || len(got) != 12 {
		t.Errorf("%d of token, want 12, %v", len(got), err)
	}
	for _, bad := range []audit.Position{{File: 9999}, {File: 1, Offset: 1 << 40}, {File: 1, Offset: -1}} {
		if _, _, err := l.Page(t.Context(), bad, 1, nil); !errors.Is(err, audit.ErrPosition) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	l := open(t, t.TempDir())
	long := strings.Repeat("\x01é\xff", 5000)
	e, err := l.Append(audit.Entry{
		RequestID: long, Principal: long, Role: long, Way: long, From: long, Operation: long, Method: long, Resource: long,
		Body: long, Reason: long, Before: long, After: long, Detail: long,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := l.Page(t.Context(), audit.Position{}, 1, nil)
	if err != nil || len(got) != 1 || got[0] != e {
		t.Errorf("%v: what is read is not what was kept", err)
	}
}

// Whatever is read as an entry is one that was written.
func FuzzDecode(f *testing.F) {
	line, _, err := audit.Encode(audit.Entry{Sequence: 1, Principal: "local:0", Previous: strings.Repeat("0", 64)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"sequence":1,"hash":""}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := audit.Decode(data)
		if err != nil {
			return
		}
		if e.Hash == "" || len(data) > audit.MaxLine {
			t.Fatalf("%+v out of %q", e, data)
		}
	})
}
