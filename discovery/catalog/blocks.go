package catalog

import "slices"

// blockLen is about how many services stand in one block: with 10,000 services a
// change of one copies a few kilobytes of pointers in place of 80.
const blockLen = 128

// blocks are services in the order of their names, cut into lists that are never
// empty and never changed: snapshots that follow each other share them.
type blocks [][]*Service

// place is the block that holds a service of that name if there is one, or where
// it would be put; 0 where there is none at all.
func (b blocks) place(name ServiceName) int {
	i, found := slices.BinarySearchFunc(b, name, func(block []*Service, n ServiceName) int { return block[0].Name.Compare(n) })
	if found {
		return i
	}
	return max(0, i-1)
}

// add appends services that are all above those that are there, in blocks of
// their own memory: what is replaced in one is not held by another.
func (b *blocks) add(services []*Service) {
	if last := len(*b) - 1; last >= 0 && len(services) > 0 && len((*b)[last])+len(services) <= blockLen {
		(*b)[last] = slices.Concat((*b)[last], services)
		return
	}
	for len(services) > 2*blockLen {
		*b = append(*b, slices.Clone(services[:blockLen]))
		services = services[blockLen:]
	}
	if len(services) > 0 {
		*b = append(*b, slices.Clone(services))
	}
}

// reader reads services one after the other.
type reader struct {
	rest  blocks
	block []*Service // not empty before the end
}

func read(s *Snapshot) *reader {
	r := new(reader)
	if s != nil {
		r.rest = s.blocks
	}
	r.fill()
	return r
}

func (r *reader) fill() {
	if len(r.block) == 0 && len(r.rest) > 0 {
		r.block, r.rest = r.rest[0], r.rest[1:]
	}
}

// head is the next service; nil at the end.
func (r *reader) head() *Service {
	if len(r.block) == 0 {
		return nil
	}
	return r.block[0]
}

func (r *reader) next() {
	r.block = r.block[1:]
	r.fill()
}

// skip passes over what both have in common at their heads; false where that is
// nothing.
func (r *reader) skip(o *reader) bool {
	n := min(len(r.block), len(o.block))
	switch {
	case n == 0:
		return false
	case len(r.block) == len(o.block) && &r.block[0] == &o.block[0]: // one block, which is not looked into
	case r.block[0] != o.block[0]:
		return false
	default:
		same := 1
		for same < n && r.block[same] == o.block[same] {
			same++
		}
		n = same
	}
	r.block, o.block = r.block[n:], o.block[n:]
	r.fill()
	o.fill()
	return true
}
