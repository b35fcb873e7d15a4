package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a header or a payload: claims are flat, some
// issuers put roles three levels deep.
const maxDepth = 16

// decodeStrict reads one JSON object and nothing after it. Members that are there
// twice are refused at every level: of two parsers one takes the first and the
// other the last.
func decodeStrict(data []byte, into *map[string]json.RawMessage) error {
	if !utf8.Valid(data) {
		return errors.New("is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return errors.New("is no object")
	}
	if err := walk(dec, '{', 1); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something after the object")
	}
	return json.Unmarshal(data, into)
}

// walk goes through the object or list that has just begun.
func walk(dec *json.Decoder, kind json.Delim, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	seen := make(map[string]bool)
	for dec.More() {
		if kind == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // the decoder takes nothing else here
			if seen[name] {
				return fmt.Errorf("member %q is there twice", name)
			}
			seen[name] = true
		}
		value, err := dec.Token()
		if err != nil {
			return err
		}
		if d, ok := value.(json.Delim); ok && (d == '{' || d == '[') {
			if err := walk(dec, d, depth+1); err != nil {
				return err
			}
		}
	}
	_, err := dec.Token() // the end
	return err
}
