package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Phase says what an entry tells.
type Phase string

// The phases.
const (
	// Attempt comes before a change is made: without it no change is.
	Attempt Phase = "attempt"
	// Outcome follows it, with the same request ID. An attempt without one was cut
	// short by a crash: whether it took effect is in the history.
	Outcome Phase = "outcome"
	// Refused is a change that its sender may not make.
	Refused Phase = "refused"
	// Repaired and Damaged are the log's own: a line that a crash had cut off was
	// taken away; an earlier file does not verify.
	Repaired Phase = "repaired"
	Damaged  Phase = "damaged"
)

const (
	// maxField bounds each text of an entry; a SPIFFE ID has 2,048 bytes.
	maxField = 2304
	// MaxLine bounds an entry: its 13 texts with every character escaped, and the
	// rest. No entry can exceed it, so none spoils those that it is written with.
	MaxLine = 256 << 10
)

// Entry is one line of the log. Texts are cut to maxField bytes.
type Entry struct {
	// Sequence counts entries from 1, over all files.
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	Phase    Phase     `json:"phase" enum:"attempt,outcome,refused,repaired,damaged"`
	// RequestID ties the entries of one request to each other, to its answer and
	// to the history.
	RequestID string `json:"request_id,omitempty"`
	// Principal is who, Role what he may, Way and From where he came from.
	Principal string `json:"principal,omitempty" doc:"Who: local:UID, token, a SPIFFE ID, or ISSUER#SUBJECT."`
	Role      string `json:"role,omitempty"`
	Way       string `json:"way,omitempty" doc:"socket, loopback or mtls."`
	From      string `json:"from,omitempty" doc:"Address of the other end."`
	// Operation, Method and Resource are what is changed; Body is the SHA-256 of
	// what was sent, in hexadecimal.
	Operation string `json:"operation,omitempty" doc:"Id of the API's operation, such as create-export."`
	Method    string `json:"method,omitempty"`
	Resource  string `json:"resource,omitempty" doc:"Path of what is changed."`
	Body      string `json:"body_sha256,omitempty"`
	// Reason is the principal's own words.
	Reason string `json:"reason,omitempty"`
	// Status is the HTTP status of an outcome; Before and After are the entity tags
	// of the resource, empty where there is none.
	Status int    `json:"status,omitempty"`
	Before string `json:"before,omitempty" doc:"Entity tag before the change."`
	After  string `json:"after,omitempty" doc:"Entity tag after the change."`
	// Detail is the log's own remark.
	Detail string `json:"detail,omitempty"`
	// Previous is the hash of the entry before, 64 zeros for the first.
	Previous string `json:"previous"`
	// Hash is this entry's.
	Hash string `json:"hash"`
}

const hashLength = 2 * sha256.Size

// noHash is the hash before the first entry.
func noHash() string { return strings.Repeat("0", hashLength) }

// hashMember comes at the end of each line, and the hash and `"}` after it.
const hashMember = `,"hash":"`

// encode returns the line of e, its newline included, and e with its hash.
func encode(e Entry) ([]byte, Entry, error) {
	for _, s := range []*string{
		&e.RequestID, &e.Principal, &e.Role, &e.Way, &e.From, &e.Operation, &e.Method, &e.Resource, &e.Body, &e.Reason,
		&e.Before, &e.After, &e.Detail,
	} {
		*s = cut(*s)
	}
	e.Hash = ""
	line, err := json.Marshal(e)
	if err != nil {
		return nil, e, err
	}
	content := bytes.TrimSuffix(line, []byte(hashMember+`"}`))
	e.Hash = sum(content)
	line = fmt.Appendf(nil, "%s%s%s\"}\n", content, hashMember, e.Hash)
	if len(line) > MaxLine {
		return nil, e, fmt.Errorf("entry has %d bytes, at most %d", len(line), MaxLine)
	}
	return line, e, nil
}

var errLine = errors.New("line fails its hash")

// decode reads a line without its newline and checks its own hash.
func decode(line []byte) (Entry, error) {
	var e Entry
	at := len(line) - len(hashMember) - hashLength - len(`"}`)
	if at < 0 || len(line) > MaxLine {
		return e, errLine
	}
	content, member, hash := line[:at], line[at:at+len(hashMember)], line[at+len(hashMember):len(line)-len(`"}`)]
	if string(member) != hashMember || string(line[len(line)-2:]) != `"}` || sum(content) != string(hash) {
		return e, errLine
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("%w: %w", errLine, err)
	}
	return e, nil
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// cut shortens a text to maxField bytes, whole characters only.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxField)], "") }
