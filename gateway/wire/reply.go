package wire

import (
	"io"
	"strings"
	"time"
)

// Reply is the far gateway's answer to a [Header], before its first payload byte.
type Reply struct {
	// Status is OK or the reason of the refusal.
	Status Status
	// Message is for people (logs, explain); at most [MaxMessage] bytes of UTF-8
	// without control characters. Longer ones are cut, others dropped.
	Message string
	// RetryAfter is how long the caller should leave this cluster alone; zero
	// means nothing is known. Whole milliseconds on the wire (rounded up), at
	// most [MaxRetryAfter].
	RetryAfter time.Duration
}

// Types of a reply's fields.
const (
	replyMessage    = 2
	replyRetryAfter = 4
)

// AppendReply appends r. A status outside the closed set is sent as [Internal];
// what does not fit a bound is clipped: an answer must always go out.
func AppendReply(b []byte, r Reply) []byte {
	status := r.Status
	if !status.Valid() {
		status = Internal
	}
	message := clipMessage(r.Message)
	retry := milliseconds(r.RetryAfter, MaxRetryAfter)
	n := 0
	if message != "" {
		n += 1 + varintLen(uint64(len(message))) + len(message)
	}
	if retry != 0 {
		n += 2 + varintLen(retry)
	}
	b = appendVarint(b, uint64(status))
	b = appendVarint(b, uint64(n))
	b = appendText(b, replyMessage, message)
	return appendNumber(b, replyRetryAfter, retry)
}

// ReadReply reads a reply, not a byte more. It returns [*ParseError] for what
// breaks the protocol and rd's errors otherwise; io.EOF means that the stream
// ended without an answer.
func ReadReply(rd io.Reader) (Reply, error) {
	buf := getBuffer(8)
	defer putBuffer(buf)
	status, err := readVarint(rd, *buf)
	if err != nil {
		return Reply{}, err
	}
	n, err := readVarint(rd, *buf)
	if err != nil {
		return Reply{}, unexpected(err)
	}
	if n > MaxReply {
		return Reply{}, malformed("reply", "is longer than 1024 bytes")
	}
	body := getBuffer(int(n))
	defer putBuffer(body)
	if _, err := io.ReadFull(rd, *body); err != nil {
		return Reply{}, unexpected(err)
	}
	return ParseReply(status, *body)
}

// ParseReply parses a reply's fields; status is the number before them.
func ParseReply(status uint64, b []byte) (Reply, error) {
	if status >= numStatuses {
		return Reply{}, malformed("status", "is not of the closed set")
	}
	if len(b) > MaxReply {
		return Reply{}, malformed("reply", "is longer than 1024 bytes")
	}
	r := Reply{Status: Status(status)}
	f := fields{rest: string(b)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Reply{}, err
		}
		if !ok {
			return r, nil
		}
		switch typ {
		case replyMessage:
			if len(value) > MaxMessage || !printable(value) {
				err = malformed("message", "must be at most 512 bytes of printable text")
			}
			r.Message = value
		case replyRetryAfter:
			var n uint64
			n, err = number("retry-after", value, uint64(MaxRetryAfter/time.Millisecond))
			r.RetryAfter = time.Duration(n) * time.Millisecond
		default:
			err = unknown(typ)
		}
		if err != nil {
			return Reply{}, err
		}
	}
}

// LimitMessage is the message of an [Overloaded] reply that a limit gave: its reason, and
// the rule where there is one. It says no more than the refused caller may know.
func LimitMessage(reason, rule string) string {
	if rule == "" {
		return reason
	}
	return reason + " " + rule
}

// LimitReason reads LimitMessage; of other messages it makes reasons that nobody knows.
func LimitReason(message string) (reason, rule string) {
	reason, rule, _ = strings.Cut(message, " ")
	return reason, rule
}

// clipMessage makes a message fit to be sent.
func clipMessage(s string) string {
	if !printable(s) {
		return ""
	}
	if len(s) <= MaxMessage {
		return s
	}
	cut := MaxMessage
	for cut > 0 && s[cut]&0xc0 == 0x80 { // not inside a rune
		cut--
	}
	return s[:cut]
}
