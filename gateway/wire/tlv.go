package wire

import (
	"cmp"
	"unicode/utf8"
)

// appendText appends a text field, or nothing for an empty one.
func appendText(b []byte, typ uint64, s string) []byte {
	if s == "" {
		return b
	}
	b = appendVarint(b, typ)
	b = appendVarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendNumber appends a number field, or nothing for zero.
func appendNumber(b []byte, typ, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = appendVarint(b, typ)
	b = appendVarint(b, uint64(varintLen(v)))
	return appendVarint(b, v)
}

// fields walks a TLV list.
type fields struct {
	rest string
	last uint64
	any  bool
	// limit bounds one value; 0 is MaxField.
	limit uint64
}

// next returns the next field; ok is false at the end.
func (f *fields) next() (typ uint64, value string, ok bool, err error) {
	if f.rest == "" {
		return 0, "", false, nil
	}
	typ, rest, err := parseVarint(f.rest)
	if err != nil {
		return 0, "", false, err
	}
	if f.any && typ <= f.last {
		return 0, "", false, malformed("field", "is out of order or repeated")
	}
	n, rest, err := parseVarint(rest)
	if err != nil {
		return 0, "", false, err
	}
	if n == 0 {
		return 0, "", false, malformed("field", "is empty")
	}
	if n > cmp.Or(f.limit, MaxField) {
		return 0, "", false, malformed("field", "is longer than its limit")
	}
	if n > uint64(len(rest)) {
		return 0, "", false, errTruncated
	}
	f.rest, f.last, f.any = rest[n:], typ, true
	return typ, rest[:n], true, nil
}

// unknown is the rule for a field that this version does not know.
func unknown(typ uint64) error {
	if typ%2 == 0 {
		return nil
	}
	return malformed("field", "is of an unknown type that must be understood")
}

// number reads a value that is one number and nothing else; limit bounds it.
func number(part, value string, limit uint64) (uint64, error) {
	v, rest, err := parseVarint(value)
	switch {
	case err != nil:
		return 0, malformed(part, "is not a number")
	case rest != "":
		return 0, malformed(part, "has bytes after its number")
	case v == 0:
		return 0, malformed(part, "is zero and should be absent")
	case v > limit:
		return 0, malformed(part, "is larger than its limit")
	}
	return v, nil
}

// visible reports whether s is printable ASCII without spaces: what names, IDs
// and trace contexts consist of. It keeps control characters out of logs and
// header fields.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// printable reports whether s is UTF-8 text without control characters.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}
