package wire

import "time"

// Reply is the far gateway's answer to a [Header], before its first payload byte.
type Reply struct {
	// Status is OK or the reason of the refusal.
	Status Status
	// Message is for people (logs, explain); at most [MaxMessage] bytes of UTF-8.
	Message string
	// RetryAfter is how long the caller should leave this cluster alone; zero
	// means nothing is known. Whole milliseconds on the wire.
	RetryAfter time.Duration
}
