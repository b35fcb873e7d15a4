package wire

// AppendCallback appends a callback frame: the accepting side of a link, which
// cannot dial the other, asks it to dial a connection on which requests travel
// the other way round. It may be repeated and has no body; bytes of a later
// version in it are ignored.
func AppendCallback(b []byte) []byte { return appendFrame(b, FrameCallback, nil) }
