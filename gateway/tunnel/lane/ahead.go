package lane

import "time"

// A stop comes in the same direction as payload. Who only writes reads ahead of who will
// read, so that it sees the other end's wish; one behind more than maxAhead of payload
// that nobody has read is not seen.
const (
	// watchEvery is how many bytes are written before somebody looks: most calls have
	// been answered by then.
	watchEvery = 64 << 10
	maxAhead   = 64 << 10
	aheadStep  = 4 << 10
)

// watch reads ahead in a goroutine, where nobody reads.
func (s *Stream) watch() {
	c := s.conn
	if !c.reading.TryLock() {
		return // somebody reads, or watches
	}
	c.watching.Store(true)
	if s.wanted.Load() || !c.spawn(s.readAhead) {
		c.watching.Store(false)
		c.reading.Unlock()
	}
}

// readAhead reads until there is enough, or who wants to read interrupts it.
func (s *Stream) readAhead() {
	c := s.conn
	defer func() {
		c.watching.Store(false)
		c.reading.Unlock()
	}()
	buf := make([]byte, aheadStep)
	for s.room() && !s.wanted.Load() {
		n, err := c.payload(s, buf)
		s.mu.Lock()
		if s.readErr == nil {
			s.ahead = append(s.ahead, buf[:n]...)
		}
		s.mu.Unlock()
		if err != nil {
			return // who reads finds out, and who writes
		}
	}
}

// room reports whether more may be read ahead.
func (s *Stream) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readErr == nil && s.recvErr == nil && len(s.ahead) < maxAhead
}

// ready is what can be said to a Read at once: what was read ahead, or why there is
// nothing more.
func (s *Stream) ready(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return 0, s.readErr
	}
	if len(s.ahead) > 0 {
		n := copy(p, s.ahead)
		if s.ahead = s.ahead[n:]; len(s.ahead) == 0 {
			s.ahead = nil
		}
		return n, nil
	}
	return 0, s.recvErr
}

// lockReading takes reading for a Read, from who reads ahead if need be.
func (s *Stream) lockReading() {
	c := s.conn
	s.wanted.Store(true)
	if c.reading.TryLock() {
		return
	}
	if c.watching.Load() {
		s.deadline(time.Unix(1, 0))
	}
	c.reading.Lock()
	c.mu.Lock()
	until := s.until
	c.mu.Unlock()
	s.deadline(until)
}

func (s *Stream) unlockReading() {
	s.wanted.Store(false)
	s.conn.reading.Unlock()
}
