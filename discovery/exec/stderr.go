package exec

import (
	"bufio"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/time/rate"
)

const (
	// stderrRate and stderrBurst bound the lines a second that go from a
	// command's standard error into this process's log.
	stderrRate  = 5
	stderrBurst = 50
	// stderrLine bounds one of them; the rest of a longer line is a line itself.
	stderrLine = 4096
)

// logStderr logs what the command prints until it ends, and how much was left
// out.
func logStderr(r io.Reader, log *slog.Logger) {
	limit := rate.NewLimiter(stderrRate, stderrBurst)
	lines := bufio.NewReaderSize(r, stderrLine)
	dropped := 0
	tell := func() {
		if dropped > 0 {
			log.Warn("left out lines of the command's standard error", "count", dropped)
			dropped = 0
		}
	}
	defer tell()
	for {
		line, err := lines.ReadSlice('\n') // ErrBufferFull: a piece of a long line
		if text := strings.TrimSpace(string(line)); text != "" {
			if limit.Allow() {
				tell()
				log.Info("the command says", "reason", text)
			} else {
				dropped++
			}
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // ReadSlice returns it bare
			return
		}
	}
}
