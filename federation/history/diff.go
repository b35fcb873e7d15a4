package history

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Diff lists where two JSON documents differ, nil being no document: the paths in
// order, and nothing below a place where one has something and the other not.
// Lists are compared place by place.
func Diff(before, after []byte) []resource.Difference {
	out := []resource.Difference{}
	diff("", parse(before), parse(after), &out)
	return out
}

// absent is the value of a place that a document does not have.
type absent struct{}

func parse(document []byte) any {
	if document == nil {
		return absent{}
	}
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber() // a number is shown as it was written
	var v any
	if dec.Decode(&v) != nil {
		return string(document)
	}
	return v
}

func diff(path string, before, after any, out *[]resource.Difference) {
	switch b := before.(type) {
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			break
		}
		keys := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			diff(path+"/"+escape(k), member(b, k), member(a, k), out)
		}
		return
	case []any:
		a, ok := after.([]any)
		if !ok {
			break
		}
		for i := range max(len(a), len(b)) {
			diff(path+"/"+strconv.Itoa(i), element(b, i), element(a, i), out)
		}
		return
	}
	was, is := document(before), document(after)
	if !bytes.Equal(was, is) {
		*out = append(*out, resource.Difference{Path: path, Before: was, After: is})
	}
}

func member(m map[string]any, key string) any {
	if v, ok := m[key]; ok {
		return v
	}
	return absent{}
}

func element(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

func document(v any) json.RawMessage {
	if _, none := v.(absent); none {
		return nil
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil // what was decoded encodes
	}
	return out
}

// escape writes a key as a part of a JSON pointer.
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
