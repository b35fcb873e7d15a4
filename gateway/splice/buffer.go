package splice

import "sync"

const (
	// smallBuffer is what a direction holds while it waits: an idle connection
	// costs two of these. Most requests and answers fit.
	smallBuffer = 4 << 10
	// largeBuffer is taken while bytes come faster than they are read: measured,
	// 128 KiB moves bulk a fifth faster than 32 KiB on QUIC.
	largeBuffer = 128 << 10
)

// pool lends the buffers, so that what idles gives its memory to what works.
// Nothing is read from a buffer beyond what was just written into it, so that
// no byte of one connection can reach another.
type pool struct {
	small, large sync.Pool
}

func newPool() *pool {
	return &pool{
		small: sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
	}
}

// lazyBuffer is one direction's buffer: small until a read fills it, large until
// one no longer does.
type lazyBuffer struct {
	pool  *pool
	small *[smallBuffer]byte
	large *[largeBuffer]byte
}

func (b *lazyBuffer) next() []byte {
	if b.large != nil {
		return b.large[:]
	}
	if b.small == nil {
		b.small = b.pool.small.Get().(*[smallBuffer]byte)
	}
	return b.small[:]
}

// saw tells how much the last read gave.
func (b *lazyBuffer) saw(n int) {
	switch {
	case b.large == nil && n == smallBuffer:
		b.large = b.pool.large.Get().(*[largeBuffer]byte)
	case b.large != nil && n < smallBuffer:
		b.pool.large.Put(b.large)
		b.large = nil
	}
}

func (b *lazyBuffer) release() {
	if b.small != nil {
		b.pool.small.Put(b.small)
		b.small = nil
	}
	if b.large != nil {
		b.pool.large.Put(b.large)
		b.large = nil
	}
}
