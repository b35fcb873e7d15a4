package wire

import "sync"

// buffers are scratch space for reading messages: they are short-lived, and
// would otherwise be the largest allocation of opening a stream. Nothing that is
// returned to a caller points into one.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// keepBuffer bounds what goes back to the pool, so that one large report does
// not pin its megabyte.
const keepBuffer = MaxHeader

func getBuffer(n int) *[]byte {
	b := buffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= keepBuffer {
		buffers.Put(b)
	}
}
