package exchange_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"pgregory.net/rapid"
)

func TestParseEventIsStrictAboutFormAndOpenAboutTheFuture(t *testing.T) {
	for label, line := range map[string]string{
		"heartbeat":      `{"type":"heartbeat","epoch":1,"version":2,"digest":"00"}`,
		"unknown type":   `{"type":"weather","temperature":{"celsius":21}}`,
		"unknown field":  `{"type":"heartbeat","mood":"good"}`,
		"spaces":         ` { "type" : "sync" } `,
		"nested objects": `{"type":"service","service":{"a":[{"b":1},{"b":2}]}}`,
	} {
		if _, err := exchange.ParseEvent([]byte(line)); err != nil {
			t.Errorf("%s: %v", label, err)
		}
	}
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for label, line := range map[string]string{
		"nothing":                  ``,
		"space":                    ` `,
		"null":                     `null`,
		"array":                    `[]`,
		"string":                   `"begin"`,
		"no type":                  `{}`,
		"type is no string":        `{"type":1}`,
		"cut":                      `{"type":"begin"`,
		"two objects":              `{"type":"sync"}{"type":"sync"}`,
		"garbage behind":           `{"type":"sync"}x`,
		"name twice":               `{"type":"sync","epoch":1,"epoch":2}`,
		"name twice, other case":   `{"type":"sync","epoch":1,"Epoch":2}`,
		"name twice, folded":       `{"type":"sync","services":1,"ſervices":2}`,
		"name twice, inside":       `{"type":"service","service":{"service":"a.b","service":"c.d"}}`,
		"name twice, deep inside":  `{"type":"roster","gateways":[{"x":[{"id":1,"ID":2}]}]}`,
		"negative epoch":           `{"type":"sync","epoch":-1}`,
		"epoch beyond 64 bits":     `{"type":"sync","epoch":18446744073709551616}`,
		"fraction":                 `{"type":"sync","epoch":1.5}`,
		"epoch is a string":        `{"type":"sync","epoch":"1"}`,
		"bad UTF-8":                "{\"type\":\"sync\xff\"}",
		"nests too deep":           `{"type":"service","service":` + deep + `}`,
		"very many names":          `{"type":"x",` + manyNames(100) + `}`,
		"newline in the middle":    "{\"type\":\n\"sync\",}",
		"comment":                  `{"type":"sync"} // really`,
		"object ends as an array":  `{"type":"sync"]`,
		"services is a float word": `{"type":"sync","services":NaN}`,
	} {
		if e, err := exchange.ParseEvent([]byte(line)); err == nil {
			t.Errorf("%s: %q is read as %+v", label, line, e)
		} else {
			wantRefused(t, err, exchange.ReasonProtocol)
		}
	}
}

func manyNames(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = `"n` + strings.Repeat("x", i) + `":1`
	}
	return strings.Join(parts, ",")
}

func seeds() []string {
	s := newScript().full(1, 1).put("web.shop", 3).
		roster("["+gatewayJSON("gw1", "gw1.example.org:7443")+"]").bundle(`{"keys":[]}`).conflicts(`[]`).sync(1, 1).
		heartbeat(1, 1).delta(1, 2, 1).remove("web.shop").sync(1, 2)
	return append(s.lines, `{}`, `null`, `{"type":"weather"}`, `{"type":"sync","epoch":1,"Epoch":2}`)
}

func FuzzParseEvent(f *testing.F) {
	for _, l := range seeds() {
		f.Add([]byte(l))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := exchange.ParseEvent(line)
		if err != nil {
			return
		}
		// What is read once means the same when it is written and read again.
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("%q is read as %+v, which cannot be written: %v", line, e, err)
		}
		back, err := exchange.ParseEvent(again)
		if err != nil {
			t.Fatalf("%q is written as %q, which cannot be read: %v", line, again, err)
		}
		if once, _ := json.Marshal(back); string(once) != string(again) {
			t.Fatalf("%q changes on the way: %q, %q", line, again, once)
		}
	})
}

// FuzzApplier throws lines at a listener that has a good state: it never panics,
// never goes back, never takes more than its quotas, and either keeps the state
// or has a complete new one.
func FuzzApplier(f *testing.F) {
	f.Add([]byte(strings.Join(seeds(), "\n")))
	s := newScript().full(2, 5).put("db.shop", 1).sync(2, 5)
	f.Add([]byte(strings.Join(s.lines, "\n")))
	f.Add([]byte(strings.Join(s.lines[:2], "\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := newApplier(func(o *exchange.ApplierOptions) {
			o.Limits = exchange.DefaultLimits()
			o.Limits.Services, o.Limits.Bytes, o.Limits.Line = 4, 4096, 2048
		})
		if _, err := feed(a, newScript().full(1, 1).put("web.shop", 3).sync(1, 1).lines, t0); err != nil {
			t.Fatal(err)
		}
		at := t0
		for line := range strings.SplitSeq(string(data), "\n") {
			at = at.Add(1e9)
			before := a.Snapshot()
			effect, err := a.Apply([]byte(line), at)
			after := a.Snapshot()
			switch {
			case after.Position().Before(before.Position()):
				t.Fatalf("%q: went back from %v to %v", line, before.Position(), after.Position())
			case effect.Changed != (before != after):
				t.Fatalf("%q: changed is %v", line, effect.Changed)
			case err != nil && before != after:
				t.Fatalf("%q: was refused (%v) and changed the state", line, err)
			case len(after.Services()) > 4 || len(after.Gateways()) > 64:
				t.Fatalf("%q: exceeds the quotas: %s", line, show(after))
			}
			for _, g := range after.Gateways() {
				if !strings.HasPrefix(g.ID, peerID+"/gateway/") {
					t.Fatalf("%q: a foreign gateway %s", line, g.ID)
				}
			}
			for _, v := range after.Services() {
				if err := v.Validate(); err != nil {
					t.Fatalf("%q: an invalid service %v", line, err)
				}
			}
		}
	})
}

// What the quick look passes, the slow one passes: over lines of all kinds, cut
// and stirred.
func TestPlainNamesAreNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := drawJSON(t, 0)
		var v any
		if json.Unmarshal([]byte(line), &v) != nil {
			t.Skip("is no JSON")
		}
		plain, err := exchange.PlainNames([]byte(line)), exchange.CheckNames([]byte(line))
		if plain && err != nil {
			t.Fatalf("%s: passes, but %v", line, err)
		}
		if !plain && err == nil && !strings.ContainsAny(line, "\\ſé") {
			t.Fatalf("%s: is looked at slowly", line)
		}
	})
}

// drawJSON draws a value that may have names twice, in any case, at any depth.
func drawJSON(t *rapid.T, depth int) string {
	name := rapid.SampledFrom([]string{`"a"`, `"A"`, `"b"`, `"c"`, `"services"`, `"ſervices"`, `"é"`, `"\u0061"`, `","`, `"{"`, `"]"`, `":"`})
	kinds := []string{"object", "object", "array", "text", "number", "word"}
	if depth > 18 {
		kinds = kinds[3:]
	}
	kind := "object"
	if depth > 0 {
		kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	}
	most := 4
	if depth > 4 {
		most = 1
	}
	switch kind {
	case "object":
		var parts []string
		for range rapid.IntRange(0, most).Draw(t, "names") {
			parts = append(parts, name.Draw(t, "name")+rapid.SampledFrom([]string{":", " : "}).Draw(t, "colon")+drawJSON(t, depth+1))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case "array":
		var parts []string
		for range rapid.IntRange(0, most).Draw(t, "items") {
			parts = append(parts, drawJSON(t, depth+1))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case "text":
		return name.Draw(t, "text")
	case "number":
		return rapid.SampledFrom([]string{"1", "-2.5e3", "0"}).Draw(t, "number")
	default:
		return rapid.SampledFrom([]string{"true", "null"}).Draw(t, "word")
	}
}

// What is read the quick way is what the slow way reads, of lines as they are
// sent and of lines that were stirred.
func TestPlainLinesAreReadAlike(t *testing.T) {
	quick := 0
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.SampledFrom([]uint64{0, 1, 17, math.MaxInt64, math.MaxUint64})
		text := rapid.SampledFrom([]string{"", "gcp", "web.shop", "00ff", "a b", "é", "<", "sync"})
		value := rapid.SampledFrom([]string{
			"", `{"a":1}`, `{"a":1,"A":2}`, `[]`, `"x"`, `{"a":{"b":[1,2]}}`, `{} `, `{"a":1`,
			`{"service":"web.shop","ports":[{"name":"http","protocol":"http"}],"rows":[{"port":"http","ready":1,"total":2}]}`,
		})
		e := exchange.Event{
			Type:    exchange.EventType(rapid.SampledFrom([]string{"begin", "service", "sync", "heartbeat", "remove", "weather", ""}).Draw(t, "type")),
			Format:  rapid.IntRange(0, 2).Draw(t, "format"),
			Cluster: text.Draw(t, "cluster"), Epoch: number.Draw(t, "epoch"), Version: number.Draw(t, "version"),
			Delta: rapid.Bool().Draw(t, "delta"), Since: number.Draw(t, "since"), Services: rapid.IntRange(0, 3).Draw(t, "services"),
			Digest: text.Draw(t, "digest"), Name: text.Draw(t, "name"),
		}
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if v := value.Draw(t, "value"); v != "" {
			line = append(line[:len(line)-1], `,"service":`+v+`}`...)
		}
		for range rapid.IntRange(0, 2).Draw(t, "stirs") {
			at := rapid.IntRange(0, len(line)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				line[at] = rapid.SampledFrom([]byte(`{}[]",:0-ttype`)).Draw(t, "byte")
			case 1:
				line = append(line[:at], line[at+1:]...)
			default:
				line = append(line, line[at:]...)
			}
		}
		got := exchange.ParsePlain(line)
		want, err := exchange.ParseSlowly(line)
		if got == nil {
			return
		}
		quick++
		exchange.ForgetSummary(got) // which the slow way reads later
		if got.Type == "" && want == nil {
			return // left to the slow way
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %+v, want %+v, %v", line, got, want, err)
		}
	})
	if quick == 0 {
		t.Error("no line was read the quick way")
	}
}
