package exchange

import "maps"

// delta is a batch that several peers are sent, byte for byte: those who are told
// the same list, from one position to another. With 200 peers a telling is so
// written once, and copied.
type delta struct {
	said   *said // by which the list and its version are known, too
	from   Position
	at     Position
	digest digest
	labels map[string]string
	batch  *outgoing
}

// since is feed.since, by the last delta where that is what is asked for.
func (e *Exporter) since(f *feed, p Position, full bool) *outgoing {
	listed, ok := f.marked(p)
	if !ok || full || f.ownSince(p.Version) {
		return f.since(p, full)
	}
	said, ok := f.list.since(listed, false)
	if !ok {
		return f.since(p, full)
	}
	sum := f.digest()
	if d := e.delta; d != nil && d.said == said && d.from == p && d.at == f.at && d.digest == sum && maps.Equal(d.labels, f.labels) {
		return d.batch
	}
	o := f.since(p, false)
	if o.encode() {
		e.delta = &delta{said: said, from: p, at: f.at, digest: sum, labels: f.labels, batch: o}
	}
	return o
}

// ownSince reports whether what is told to this peer alone has changed after a
// version.
func (f *feed) ownSince(version uint64) bool {
	for _, e := range f.own {
		if e.changed > version {
			return true
		}
	}
	return false
}

// encode keeps the lines of the whole batch in one piece, where they are few enough.
func (o *outgoing) encode() bool {
	if o.body == nil {
		return false
	}
	const ends = 512 // what begins and ends a batch, about
	whole := make([]byte, 0, len(o.body)+ends)
	var err error
	for ev := range o.head {
		if whole, err = ev.append(whole); err != nil {
			return false
		}
	}
	whole = append(whole, o.body...)
	if whole, err = o.sync.append(whole); err != nil {
		return false
	}
	o.whole = whole
	return true
}
