package wire

import (
	"fmt"
	"io"
)

// ParseError says that bytes from the peer break the protocol. Who gets one ends the
// stream (or, for control frames, the link) with [Protocol].
type ParseError struct {
	// Part names the message or field.
	Part string
	// Rule says what is wrong, in words that follow Part.
	Rule string
}

// Error implements error.
func (e *ParseError) Error() string { return "malformed message: " + e.Part + " " + e.Rule }

func malformed(part, rule string) error { return &ParseError{Part: part, Rule: rule} }

// errTruncated is what parsing a prefix of a message gives, at every cut.
var errTruncated = fmt.Errorf("malformed message: %w", io.ErrUnexpectedEOF)

// FieldError says that a value cannot be sent since it breaks a bound of the
// protocol.
type FieldError struct {
	// Field and Rule name the field and the rule; Length is the value's length in
	// bytes (the value itself may be too long to print).
	Field, Rule string
	Length      int
}

// Error implements error.
func (e *FieldError) Error() string {
	return fmt.Sprintf("field %s of %d bytes %s", e.Field, e.Length, e.Rule)
}
