package splice

import "bufio"

// Resume returns c whose first bytes have been read into a buffer already: after
// an HTTP exchange that turned into something else.
func Resume(c Conn, first *bufio.Reader) Conn { return &resumed{Conn: c, first: first} }

type resumed struct {
	Conn
	first *bufio.Reader
}

// Read implements io.Reader.
func (r *resumed) Read(p []byte) (int, error) {
	if r.first == nil {
		return r.Conn.Read(p)
	}
	if n := r.first.Buffered(); n > 0 {
		return r.first.Read(p[:min(n, len(p))])
	}
	r.first = nil
	return r.Conn.Read(p)
}
