package wire

// Drain says that the sender takes nothing new and will go away when what is in
// progress is done. It is final.
type Drain struct {
	// Successor is the gateway that takes over, in the same cluster; empty when
	// the sender knows none.
	Successor string
}

const drainSuccessor = 2

// AppendDrain appends a drain frame. A successor that is not a valid name is
// left out: the news must go out.
func AppendDrain(b []byte, d Drain) []byte {
	var body []byte
	if validName(d.Successor) {
		body = appendText(body, drainSuccessor, d.Successor)
	}
	return appendFrame(b, FrameDrain, body)
}

// ParseDrain parses the body of a drain frame.
func ParseDrain(b []byte) (Drain, error) {
	var d Drain
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Drain{}, err
		}
		if !ok {
			return d, nil
		}
		if typ == drainSuccessor {
			d.Successor, err = parseName("successor", value)
		} else {
			err = unknown(typ)
		}
		if err != nil {
			return Drain{}, err
		}
	}
}
