package exchange_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"pgregory.net/rapid"
)

func drawSummary(t *rapid.T) *catalog.Summary {
	text := rapid.SampledFrom([]string{"", "http", "us-east-1a", "k=v,k2=v 2", `"`, `\`, "<&>", "é", "\x00", "\u2028", "\xff", "a~"})
	s := new(catalog.Summary)
	if name := rapid.SampledFrom([]string{"web.shop", "a.b", ""}).Draw(t, "service"); name != "" {
		s.Service, _ = catalog.ParseServiceName(name)
	}
	if rapid.Bool().Draw(t, "has ports") {
		s.Ports = []catalog.Port{}
		for range rapid.IntRange(0, 3).Draw(t, "ports") {
			s.Ports = append(s.Ports, catalog.Port{Name: text.Draw(t, "port"), Protocol: catalog.Protocol(text.Draw(t, "protocol"))})
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "rows") {
		s.Rows = append(s.Rows, catalog.SummaryRow{
			Port: text.Draw(t, "port"), Zone: text.Draw(t, "zone"), Subset: text.Draw(t, "subset"),
			Ready:    rapid.SampledFrom([]uint32{0, 7, math.MaxUint32}).Draw(t, "ready"),
			Total:    rapid.SampledFrom([]uint32{0, 10, math.MaxUint32}).Draw(t, "total"),
			Capacity: rapid.SampledFrom([]uint64{0, 99, math.MaxUint64}).Draw(t, "capacity"),
		})
	}
	return s
}

// plainSummary is one as exporters write it.
const plainSummary = `{"service":"web.shop","ports":[{"name":"http","protocol":"http"}],"rows":[{"port":"http","zone":"a","ready":1,"total":2,"capacity":3}]}`

// checkSummary holds what is read the quick way to what encoding/json reads and
// writes, and reports whether anything was.
func checkSummary(t interface{ Fatalf(string, ...any) }, value []byte) bool {
	got := exchange.ParsePlainSummary(value)
	if got == nil {
		return false
	}
	want := new(catalog.Summary)
	if err := json.Unmarshal(value, want); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: is read as %+v, want %+v, %v", value, got, want, err)
	}
	if again, err := json.Marshal(got); err != nil || !bytes.Equal(again, value) {
		t.Fatalf("%s: is written as %s, %v", value, again, err)
	}
	return true
}

// Summaries are written as encoding/json writes them, and what it writes is read
// as it reads it, stirred or not.
func TestSummariesAreWrittenAndReadAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSummary(t)
		want, wantErr := json.Marshal(s)
		got, err := exchange.EncodeSummary(s)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("%+v: is written as %s, %v, want %s, %v", s, got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		value := bytes.Clone(want)
		for range rapid.IntRange(0, 2).Draw(t, "stirs") {
			at := rapid.IntRange(0, len(value)-1).Draw(t, "at")
			if rapid.Bool().Draw(t, "drop") && len(value) > 1 {
				value = append(value[:at], value[at+1:]...)
			} else {
				value[at] = rapid.SampledFrom([]byte(`{}[]",:0 -ez`)).Draw(t, "byte")
			}
		}
		checkSummary(t, value)
	})
	// What is drawn is seldom fit to be read the quick way; what exporters write is.
	if !checkSummary(t, []byte(plainSummary)) {
		t.Error("a summary as exporters write them was not read the quick way")
	}
}

func FuzzPlainSummary(f *testing.F) {
	for _, seed := range []string{
		plainSummary,
		`{"service":"web.shop","ports":null}`,
		`{"service":"web.shop","ports":[],"rows":[{"ready":01,"total":2}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) { checkSummary(t, value) })
}
