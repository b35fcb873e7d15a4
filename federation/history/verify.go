package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// checkpoint is the After of a record of that action.
type checkpoint struct {
	// Through is the sequence up to which records were dropped, Hash that record's.
	Through uint64 `json:"through"`
	Hash    string `json:"hash"`
	// Base counts the records up to Through that stay, since a rule's state stands
	// on them; Digest is the SHA-256 over their hashes, by sequence.
	Base   int    `json:"base"`
	Digest string `json:"digest"`
	// Dropped counts those that went.
	Dropped int `json:"dropped"`
}

// Fault is the first record that does not fit, and the rule that it breaks.
type Fault struct {
	Sequence uint64
	Rule     string
}

// Error names the record.
func (f *Fault) Error() string { return fmt.Sprintf("history record %d: %s", f.Sequence, f.Rule) }

func fault(sequence uint64, format string, args ...any) *Fault {
	return &Fault{Sequence: sequence, Rule: fmt.Sprintf(format, args...)}
}

// check returns the first fault of records, which are sorted, against the end of
// the chain.
func check(records []*Record, end head) *Fault {
	base, chain := split(records, end.First)
	hash := ""
	if end.First > 1 {
		c, f := checkpointOf(chain, end)
		if f != nil {
			return f
		}
		if f := checkBase(base, c); f != nil {
			return f
		}
		hash = c.Hash
	}
	next := end.First
	for _, r := range chain {
		switch {
		case r.Sequence != next:
			return fault(next, "is missing")
		case r.Previous != hash:
			return fault(r.Sequence, "does not follow the record before it")
		case r.Sum() != r.Hash:
			return fault(r.Sequence, "has been changed: its hash does not fit")
		}
		hash, next = r.Hash, next+1
	}
	if next != end.Sequence+1 {
		return fault(next, "is missing")
	}
	if hash != end.Hash {
		return fault(end.Sequence, "is not the one that the head names")
	}
	return nil
}

// split tells the base, what is left of before first, from the whole chain.
func split(records []*Record, first uint64) (base, chain []*Record) {
	for i, r := range records {
		if r.Sequence >= first {
			return records[:i], records[i:]
		}
	}
	return records, nil
}

// checkpointOf finds the checkpoint that the head names.
func checkpointOf(chain []*Record, end head) (checkpoint, *Fault) {
	var c checkpoint
	for _, r := range chain {
		if r.Sequence != end.Checkpoint {
			continue
		}
		if r.Action != Checkpoint || json.Unmarshal(r.After, &c) != nil || c.Through != end.First-1 {
			return c, fault(r.Sequence, "is not the checkpoint of what was dropped before %d", end.First)
		}
		return c, nil
	}
	return c, fault(end.Checkpoint, "is missing")
}

// checkBase judges what is left of before a checkpoint. What a crash has kept
// from being dropped is older than a record of the same rule, and no part of it.
func checkBase(records []*Record, c checkpoint) *Fault {
	kept := baseOf(records)
	for _, r := range kept {
		if r.Sum() != r.Hash {
			return fault(r.Sequence, "has been changed: its hash does not fit")
		}
	}
	if len(kept) != c.Base || digestOf(kept) != c.Digest {
		return fault(c.Through, "the %d records of the base up to here are not the %d that the checkpoint names", len(kept), c.Base)
	}
	return nil
}

func digestOf(records []*Record) string {
	h := sha256.New()
	for _, r := range records {
		_, _ = h.Write([]byte(r.Hash))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Verify reads every record anew and judges the chain.
func (l *Log) Verify(ctx context.Context) (resource.Verification, error) {
	end, err := loadHead(ctx, l.Store)
	if err != nil {
		return resource.Verification{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.reload(ctx, end); err != nil {
		return resource.Verification{}, err
	}
	end = l.head // a later one, where others wrote meanwhile
	v := resource.Verification{
		OK: true, First: end.First, Last: end.Sequence, Records: len(l.records), Bytes: end.Bytes, Hash: end.Hash,
		Checkpoint: end.Checkpoint,
	}
	if f := check(l.records, end); f != nil {
		v.OK, v.Broken, v.Rule = false, f.Sequence, f.Rule
	}
	return v, nil
}

// Broken says what is wrong with the records that were read last, "" where they
// are whole.
func (l *Log) Broken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}
