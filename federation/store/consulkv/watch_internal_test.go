package consulkv

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// A reading that had begun before an own write and ended after others' is believed
// where it has seen the write: one key of ours that stays old beside their new ones
// would be a state that never was.
func TestAReadingIsBelievedWhole(t *testing.T) {
	key := store.Key{Kind: "history", Name: "head"}
	item := func(value string, revision uint64) map[store.Key]store.Item {
		return map[store.Key]store.Item{key: {Key: key, Value: []byte(value), Revision: revision}}
	}
	for name, c := range map[string]struct {
		at    uint64 // index of what the reading found
		found map[store.Key]store.Item
		want  string
		whole bool
	}{
		"it has seen the write, and a later one of others": {9, item("theirs", 8), "theirs", true},
		"it has seen the write":                            {7, item("ours", 7), "ours", true},
		"it has not seen the write":                        {6, item("before", 5), "ours", false},
		"it has seen that others removed it":               {9, nil, "", true},
	} {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &Store{wrote: map[store.Key]written{}, metrics: m, mem: store.NewMemory(item("before", 5), 5)}
		began := s.begin()
		s.made([]store.Write{{Key: key, Value: []byte("ours"), Expect: 5}}, 7)
		if whole := s.show(began, c.found, c.at); whole != c.whole {
			t.Errorf("%s: whole = %v", name, whole)
		}
		got, err := s.mem.Get(key)
		if string(got.Value) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v; want %q", name, got.Value, err, c.want)
		}
	}
}
