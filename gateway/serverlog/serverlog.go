package serverlog

import (
	"log" //nolint:depguard // net/http's ErrorLog takes no other logger
	"log/slog"
	"strings"
)

// maxReason bounds a line: part of it is the caller's.
const maxReason = 200

// New returns a logger whose lines become debug lines of to, with message and
// the line as reason.
func New(to *slog.Logger, message string) *log.Logger {
	return log.New(writer{to, message}, "", 0)
}

type writer struct {
	to      *slog.Logger
	message string
}

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) {
	w.to.Debug(w.message, "reason", strings.TrimSpace(string(p[:min(len(p), maxReason)]))) //nolint:sloglint // one of four constants
	return len(p), nil
}
