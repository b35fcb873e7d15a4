package lane

import "time"

// Open begins a stream at the end that opens them. The connection must be free, and
// not parked.
func (c *Conn) Open() *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beginLocked()
}

func (c *Conn) beginLocked() *Stream {
	c.count++
	c.stream = &Stream{conn: c, number: c.count}
	return c.stream
}

// Accept waits for the next stream at the other end. The one before must be over; see
// Freed.
func (c *Conn) Accept() (*Stream, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	_ = c.meter.SetReadDeadline(time.Time{})
	for c.kind != recordData {
		if err := c.step(nil); err != nil {
			return nil, err
		}
	}
	return c.Open(), nil
}

// Freed receives when the current stream is over.
func (c *Conn) Freed() <-chan struct{} { return c.freed }

// Release takes the stream of the hellos away, which has been ended by neither side:
// the connection is free.
func (c *Conn) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = nil
	_ = c.meter.SetReadDeadline(time.Time{})
}

// Park watches over a connection that is free at the end that opens streams, so that
// its end is seen before it is used. Unpark must follow.
func (c *Conn) Park() {
	c.mu.Lock()
	parked := make(chan struct{})
	c.parked = parked
	_ = c.meter.SetReadDeadline(time.Time{})
	c.mu.Unlock()
	if !c.spawn(func() {
		defer close(parked)
		c.reading.Lock()
		defer c.reading.Unlock()
		for {
			err := c.step(nil)
			if err == nil && c.kind == recordData {
				_ = c.protocol("of payload without a stream")
				return
			}
			if err != nil {
				return
			}
		}
	}) {
		close(parked)
	}
}

// Unpark ends what Park began, and reports whether the connection can be used.
func (c *Conn) Unpark() bool {
	c.mu.Lock()
	parked := c.parked
	_ = c.meter.SetReadDeadline(time.Unix(1, 0))
	c.mu.Unlock()
	<-parked
	_ = c.meter.SetReadDeadline(time.Time{})
	return c.ctx.Err() == nil
}
