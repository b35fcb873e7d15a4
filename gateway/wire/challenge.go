package wire

// Nonce is drawn at random by one end of a link for the other end to sign.
type Nonce [32]byte

// IsZero reports whether n is unset.
func (n Nonce) IsZero() bool { return n == Nonce{} }

// Challenge asks the other end of a link for a [Proof] over Nonce: when the link
// comes up, after each proof, which it answers, and whenever the sender wants a
// proof anew. It replaces the challenge before it. A challenge is no hurry: who
// gets one keeps it until its certificate differs from what it has proven,
// except where Verdict says that the last proof was not accepted.
type Challenge struct {
	// Nonce must be in the next proof's transcript.
	Nonce Nonce
	// Answers is the Counter of the proof that this answers; 0 when it answers none.
	Answers uint64
	// Verdict is OK when that proof was accepted. Anything else leaves the link
	// with the deadline that it had. It is OK when Answers is 0.
	Verdict Status
}

// Types of a challenge's fields.
const (
	challengeNonce   = 1
	challengeAnswers = 3
	challengeVerdict = 5
)

// AppendChallenge appends a challenge frame. Errors are of type [*FieldError].
func AppendChallenge(b []byte, c *Challenge) ([]byte, error) {
	switch {
	case c.Nonce.IsZero():
		return b, &FieldError{Field: "nonce", Length: len(c.Nonce), Rule: "is required"}
	case c.Answers > maxVarint:
		return b, &FieldError{Field: "answers", Rule: "is larger than its limit"}
	case !c.Verdict.Valid() || c.Verdict != OK && c.Answers == 0:
		return b, &FieldError{Field: "verdict", Rule: "must be a status, and belong to a proof"}
	}
	body := appendText(nil, challengeNonce, string(c.Nonce[:]))
	body = appendNumber(body, challengeAnswers, c.Answers)
	body = appendNumber(body, challengeVerdict, uint64(c.Verdict))
	return appendFrame(b, FrameChallenge, body), nil
}

// ParseChallenge parses the body of a challenge frame.
func ParseChallenge(b []byte) (Challenge, error) {
	if len(b) > maxSmallFrame {
		return Challenge{}, malformed("challenge", "is longer than 1024 bytes")
	}
	var c Challenge
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Challenge{}, err
		}
		if !ok {
			break
		}
		var n uint64
		switch typ {
		case challengeNonce:
			if len(value) != len(c.Nonce) {
				return Challenge{}, malformed("nonce", "must be 32 bytes")
			}
			copy(c.Nonce[:], value)
		case challengeAnswers:
			c.Answers, err = number("answers", value, maxVarint)
		case challengeVerdict:
			n, err = number("verdict", value, numStatuses-1)
			c.Verdict = Status(n)
		default:
			err = unknown(typ)
		}
		if err != nil {
			return Challenge{}, err
		}
	}
	switch {
	case c.Nonce.IsZero():
		return Challenge{}, malformed("challenge", "lacks a nonce")
	case c.Verdict != OK && c.Answers == 0:
		return Challenge{}, malformed("verdict", "belongs to no proof")
	}
	return c, nil
}
