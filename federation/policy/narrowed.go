package policy

import "strings"

// narrowed are the rules with conditions of one caller pattern, found by the path:
// their number does not matter as long as paths tell them apart.
type narrowed struct {
	// deny and allow are the first by name.
	deny, allow ruleRef
	// whole has the conditions on a whole path, under its hash; below those on a
	// prefix, under the hash of the prefix without its last "/".
	whole, below map[uint64][]branch
	// rest look at no path.
	rest []branch
}

// branch is one condition of one rule.
type branch struct {
	ref       ruleRef
	allow     bool
	condition *HTTPCondition
}

func (n *narrowed) add(ref ruleRef, allow bool, conditions []*HTTPCondition) {
	if allow {
		n.allow.lower(ref)
	} else {
		n.deny.lower(ref)
	}
	for _, c := range conditions {
		b := branch{ref: ref, allow: allow, condition: c}
		switch {
		case c.Path != "":
			insertBranch(&n.whole, c.Path, b)
		case c.PathPrefix != "":
			insertBranch(&n.below, c.PathPrefix, b)
		default:
			n.rest = append(n.rest, b)
		}
	}
}

func insertBranch(m *map[uint64][]branch, path string, b branch) {
	if *m == nil {
		*m = make(map[uint64][]branch, 1)
	}
	h := uint64(hashStart)
	path = strings.TrimSuffix(path, "/")
	for i := range len(path) {
		h = hashByte(h, path[i])
	}
	(*m)[h] = append((*m)[h], b)
}

// The hash is FNV-1a over the folded path. It only finds candidates, which are then
// judged by themselves, so that a collision costs time and nothing else; the keys
// are the operators' own.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

func hashByte(h uint64, c byte) uint64 { return (h ^ uint64(fold(c))) * hashPrime }

// match adds to f the rules of which a condition is met.
func (n *narrowed) match(f *finding) {
	f.tryAll(n.rest)
	path := f.http.Path
	if path == "" {
		f.withoutPath(n.whole)
		f.withoutPath(n.below)
		return
	}
	h, whole := uint64(hashStart), strings.TrimSuffix(path, "/")
	// A rule's path is bounded, a request's is not as much.
	for i := range len(whole) {
		if whole[i] == '/' && i <= MaxPathLen && n.below != nil {
			f.tryAll(n.below[h])
		}
		h = hashByte(h, whole[i])
	}
	if n.below != nil {
		f.tryAll(n.below[h])
	}
	if n.whole != nil {
		f.tryAll(n.whole[h])
	}
}

func (f *finding) withoutPath(m map[uint64][]branch) {
	for _, branches := range m {
		f.tryAll(branches)
	}
}

func (f *finding) tryAll(branches []branch) {
	for i := range branches {
		b := &branches[i]
		found := f.deny
		if b.allow {
			found = f.allow
		}
		if (found == 0 || b.ref < found) && b.condition.match(f.http, b.allow) {
			f.take(b.ref, b.allow)
		}
	}
}
