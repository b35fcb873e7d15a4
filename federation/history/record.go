package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Kind is the archive that records are kept in.
const Kind = store.ArchivePrefix + "history"

// MaxValue bounds a value that is recorded: a transaction holds it up to three
// times, as what is written, before and after.
const MaxValue = 100 << 10

// Action is what a record tells of.
type Action string

// The actions.
const (
	Create  Action = "create"
	Replace Action = "replace"
	Delete  Action = "delete"
	// Checkpoint: older records were dropped; see package history.
	Checkpoint Action = "checkpoint"
)

// Origin says where the rule is kept that a record tells of.
type Origin string

// The origins, as in the API.
const (
	API    Origin = "api"
	Config Origin = "config"
)

// ConfigPrincipal is the author of what the config file changes, SystemPrincipal
// that of what the process does by itself.
const (
	ConfigPrincipal = "config"
	SystemPrincipal = "system"
)

// Record is one change.
type Record struct {
	Sequence uint64 `json:"sequence"`
	// At is the writer's clock, and never before the record before it.
	At        time.Time `json:"at"`
	Action    Action    `json:"action"`
	Origin    Origin    `json:"origin"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Principal string    `json:"principal"`
	Reason    string    `json:"reason,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	// Before and After are the values, nil where there is none.
	Before []byte `json:"-"`
	After  []byte `json:"-"`
	// Previous is the hash of the record before, "" of the first; Hash is Sum.
	Previous string `json:"previous"`
	Hash     string `json:"hash"`
	// Revision is that of the store's transaction, and so of the item that was
	// written in it. It is no part of what is hashed: the store gives it after.
	Revision uint64 `json:"-"`
}

// Sum is the record's hash: lower-case hexadecimal SHA-256 over
//
//	"isthmus-history/1" and then, in this order, the fields sequence (decimal), at
//	(RFC 3339, UTC, nanoseconds as needed), action, origin, kind, name, principal,
//	reason, request id, before, after and previous,
//
// each as its length in bytes (decimal), a colon and its bytes. A value that is
// absent has the length "-".
func (r *Record) Sum() string {
	h := sha256.New()
	field := func(b []byte) { _, _ = fmt.Fprintf(h, "%d:", len(b)); _, _ = h.Write(b) }
	value := func(b []byte) {
		if b == nil {
			_, _ = h.Write([]byte("-:"))
			return
		}
		field(b)
	}
	for _, s := range []string{
		"isthmus-history/1", strconv.FormatUint(r.Sequence, 10), r.At.UTC().Format(time.RFC3339Nano), string(r.Action),
		string(r.Origin), r.Kind, r.Name, r.Principal, r.Reason, r.RequestID,
	} {
		field([]byte(s))
	}
	value(r.Before)
	value(r.After)
	field([]byte(r.Previous))
	return hex.EncodeToString(h.Sum(nil))
}

// size is what the record counts for in MaxBytes.
func (r *Record) size() int64 {
	const frame = 512 // hashes, names and what the store adds
	return int64(len(r.Before)+len(r.After)+len(r.Reason)) + frame
}

// nameOf is the record's key in the archive: names sort as numbers.
func nameOf(sequence uint64) string { return fmt.Sprintf("%020d", sequence) }

func keyOf(sequence uint64) store.Key { return store.Key{Kind: Kind, Name: nameOf(sequence)} }

// stored is the head of a record as it is kept: values follow it as they are.
type stored struct {
	Record
	BeforeLen *int `json:"before_len,omitempty"`
	AfterLen  *int `json:"after_len,omitempty"`
}

var errRecord = errors.New("is no record of the history")

// encode is the form in the store: one line of JSON, then the values.
func (r *Record) encode() ([]byte, error) {
	s := stored{Record: *r}
	if r.Before != nil {
		s.BeforeLen = new(len(r.Before))
	}
	if r.After != nil {
		s.AfterLen = new(len(r.After))
	}
	line, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{line, []byte("\n"), r.Before, r.After}, nil), nil
}

// decode reads what encode wrote. It does not judge the hash: see Verify.
func decode(item store.Item) (*Record, error) {
	line, rest, ok := bytes.Cut(item.Value, []byte("\n"))
	var s stored
	if !ok || json.Unmarshal(line, &s) != nil {
		return nil, fmt.Errorf("%s: %w", item.Key, errRecord)
	}
	r := &s.Record
	for _, v := range []struct {
		n    *int
		into *[]byte
	}{{s.BeforeLen, &r.Before}, {s.AfterLen, &r.After}} {
		if v.n == nil {
			continue
		}
		if *v.n < 0 || *v.n > len(rest) {
			return nil, fmt.Errorf("%s: %w", item.Key, errRecord)
		}
		*v.into, rest = rest[:*v.n:*v.n], rest[*v.n:]
	}
	if len(rest) > 0 || nameOf(r.Sequence) != item.Key.Name {
		return nil, fmt.Errorf("%s: %w", item.Key, errRecord)
	}
	r.At = r.At.UTC()
	r.Revision = item.Revision
	return r, nil
}
