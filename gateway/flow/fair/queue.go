package fair

import "time"

// push puts a request at the end of its sender's queue.
func (g *Gate) push(s *sender, w *waiter) {
	if w.prev, w.next = s.last, nil; s.last == nil {
		s.first = w
		g.queued = append(g.queued, s)
	} else {
		s.last.next = w
	}
	s.last = w
	s.count++
	g.waiting++
}

// remove takes a request out of its sender's queue.
func (g *Gate) remove(s *sender, w *waiter) {
	if w.prev == nil {
		s.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	g.waiting--
	if s.count--; s.count > 0 {
		return
	}
	s.delay.Emptied()
	for i, q := range g.queued {
		if q == s {
			last := len(g.queued) - 1
			g.queued[i], g.queued[last] = g.queued[last], nil
			g.queued = g.queued[:last]
			return
		}
	}
}

// evict makes room for a request of s: the longest queue gives up its newest, if it is
// longer than that of s would be.
func (g *Gate) evict(s *sender) bool {
	var longest *sender
	for _, q := range g.queued {
		if longest == nil || q.count > longest.count {
			longest = q
		}
	}
	if longest == nil || longest.count <= s.count+1 {
		return false
	}
	w := longest.last
	g.remove(longest, w)
	w.answer <- Full
	return true
}

// admit gives free slots to those who wait.
func (g *Gate) admit(now int64) {
	for g.used < g.o.Limit {
		var next *sender
		for _, q := range g.queued {
			if !g.fits(q) {
				continue
			}
			if next == nil || q.used < next.used || q.used == next.used && q.turn < next.turn {
				next = q
			}
		}
		if next == nil {
			return
		}
		w := next.first
		if next.delay.Leave(now, time.Duration(now-w.began), g.o.Delay) {
			g.remove(next, w)
			w.answer <- Late
			g.forget(next)
			continue
		}
		g.remove(next, w)
		g.take(next, now)
		w.second = g.second
		w.answer <- Granted
	}
}
