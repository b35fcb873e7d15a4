package store

import "context"

// MaxReason bounds what an author may say about a change, in bytes: it is kept
// for as long as the history is.
const MaxReason = 512

// Author is who asks for a change, and why. The way in that has authenticated
// the caller sets it; whoever records changes reads it.
type Author struct {
	// Principal is the authenticated name: "local", a SPIFFE ID, the subject of a
	// token, or "config" for what the config file changes.
	Principal string
	// Reason is the caller's own words, at most MaxReason bytes; it may be empty.
	Reason string
	// RequestID ties the change to the access log and to the audit log.
	RequestID string
}

type authorKey struct{}

// WithAuthor returns a context whose writes are a's.
func WithAuthor(ctx context.Context, a Author) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// AuthorFrom returns the context's author, the zero Author where there is none:
// the process itself.
func AuthorFrom(ctx context.Context) Author {
	a, _ := ctx.Value(authorKey{}).(Author)
	return a
}
