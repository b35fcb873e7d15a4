package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// order is what the service's side tells the world; one field is set.
type order struct {
	// Mesh is the address of the mesh listener: gateways and peers start.
	Mesh string `json:"mesh,omitempty"`
	// Remote is how many rows of peers to change in each second from now on, evenly
	// spread; below 0 none any more.
	Remote int `json:"remote,omitempty"`
	// Local tells of the changes of endpoints that were made since the last tally.
	Local []mark `json:"local,omitempty"`
	// Tally asks for what was seen since the last one.
	Tally bool `json:"tally,omitempty"`
}

// mark names a change by the weight that the endpoint gets.
type mark struct {
	Weight uint32 `json:"weight"`
	At     int64  `json:"at"` // Unix nanoseconds
}

// word is what the world says.
type word struct {
	// Hello comes first: who the service is, and its keys.
	Hello *hello `json:"hello,omitempty"`
	// Synced: every gateway has everything.
	Synced bool   `json:"synced,omitempty"`
	Tally  *tally `json:"tally,omitempty"`
	Err    string `json:"err,omitempty"`
}

type hello struct {
	Certificate, Key, Bundle []byte
}

// tally is what the gateways saw of the changes.
type tally struct {
	// Local and Remote are nanoseconds from each change to each gateway.
	Local, Remote []int64
	// Sent are the changes that were made.
	Sent int
	// Missing are changes that not every gateway has seen.
	Missing int
	// Tables are those that gateways have applied.
	Tables int
	// Told are the lines that peers were told of own services.
	Told int
}

// talk is one side's end of the line between service and world: JSON lines.
type talk struct {
	dec *json.Decoder

	mu  sync.Mutex
	enc *json.Encoder
}

func newTalk(r io.Reader, w io.Writer) *talk {
	return &talk{dec: json.NewDecoder(r), enc: json.NewEncoder(w)}
}

func (t *talk) say(v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.enc.Encode(v)
}

// hear reads words until one passes.
func (t *talk) hear(what string, pass func(word) bool) (word, error) {
	for {
		var w word
		if err := t.dec.Decode(&w); err != nil {
			return w, fmt.Errorf("wait for %s: %w", what, err)
		}
		if w.Err != "" {
			return w, fmt.Errorf("wait for %s: %s", what, w.Err)
		}
		if pass(w) {
			return w, nil
		}
	}
}
