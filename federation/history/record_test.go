package history_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// The canonical form is a promise to whoever checks a chain with other tools.
func TestSumIsTheDocumentedForm(t *testing.T) {
	r := history.Record{
		Sequence: 2, At: time.Date(2026, 11, 23, 12, 0, 0, 500, time.FixedZone("x", 3600)), Action: history.Replace,
		Origin: history.API, Kind: "exports", Name: "shop", Principal: "alice", Reason: "why", RequestID: "r",
		Before: []byte("{}"), After: []byte{}, Previous: "ab",
	}
	// printf '17:isthmus-history/11:228:2026-11-23T11:00:00.0000005Z7:replace3:api7:exports4:shop5:alice3:why1:r2:{}0:2:ab' | sha256sum
	const want = "dfc74450cb933276b3e8a158c5fad1f4fe4d038e99441ee8a6729ca867465100"
	if got := r.Sum(); got != want {
		t.Errorf("Sum = %s, want %s", got, want)
	}
	absent := r
	absent.After = nil
	if absent.Sum() == r.Sum() {
		t.Error("an absent value has the hash of an empty one")
	}
	// A byte that moves from one field to the next changes the hash.
	moved := r
	moved.Kind, moved.Name = "exportss", "hop"
	if moved.Sum() == r.Sum() {
		t.Error("fields run into each other")
	}
}

func FuzzDecode(f *testing.F) {
	r := history.Record{Sequence: 3, Action: history.Create, Origin: history.API, Kind: "k", Name: "n", After: []byte("\n{}")}
	r.Hash = r.Sum()
	value, err := r.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(3), value)
	f.Add(uint64(0), []byte("{}\n"))
	f.Add(uint64(1), []byte(`{"sequence":1,"before_len":-1,"after_len":9}`+"\nxx"))
	f.Fuzz(func(t *testing.T, sequence uint64, value []byte) {
		item := store.Item{Key: store.Key{Kind: history.Kind, Name: fmt.Sprintf("%020d", sequence)}, Value: value, Revision: 9}
		got, err := history.Decode(item)
		if err != nil {
			return
		}
		again, err := got.Encode()
		if err != nil {
			return // a time that JSON cannot hold
		}
		item.Value = again
		back, err := history.Decode(item)
		if err != nil || back.Sum() != got.Sum() || !bytes.Equal(back.After, got.After) || !bytes.Equal(back.Before, got.Before) {
			t.Errorf("%q decodes to %+v, and what that encodes to decodes to %+v, %v", value, got, back, err)
		}
	})
}
