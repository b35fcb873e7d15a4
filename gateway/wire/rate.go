package wire

// Rate says how fast the sender's connections of this link have carried bulk
// towards the receiver of the frame, which cannot measure that: only who sends
// knows whether it always had something to send.
type Rate struct {
	// BytesPerSecond is of payload and QUIC together; 0 is not known.
	BytesPerSecond uint64
}

const rateBytes = 2

// MaxRate bounds a rate: 8 Tbit/s.
const MaxRate = 1e12

// AppendRate appends a rate frame.
func AppendRate(b []byte, r Rate) []byte {
	return appendFrame(b, FrameRate, appendNumber(nil, rateBytes, min(r.BytesPerSecond, MaxRate)))
}

// ParseRate parses the body of a rate frame.
func ParseRate(b []byte) (Rate, error) {
	var r Rate
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Rate{}, err
		}
		if !ok {
			return r, nil
		}
		if typ == rateBytes {
			r.BytesPerSecond, err = number("rate", value, MaxRate)
		} else {
			err = unknown(typ)
		}
		if err != nil {
			return Rate{}, err
		}
	}
}
