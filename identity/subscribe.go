package identity

import "sync"

// subscribers fans a change out to any number of listeners. Each has a channel
// of capacity one: notifications coalesce and a slow listener delays nobody.
type subscribers struct {
	mu sync.Mutex
	m  map[chan struct{}]struct{}
}

func (s *subscribers) add() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[chan struct{}]struct{})
	}
	s.m[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.m, ch)
	}
}

func (s *subscribers) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.m {
		select {
		case ch <- struct{}{}:
		default: // one is pending already
		}
	}
}

// Updates returns a channel that receives after each change of the SVID or of a
// bundle, and a function that ends the subscription. Several changes may arrive
// as one notification: read the state anew after each. The channel is never
// closed; cancel is safe to call twice.
func (s *Source) Updates() (updates <-chan struct{}, cancel func()) {
	return s.subs.add()
}
