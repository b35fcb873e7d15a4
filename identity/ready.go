package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// report is what is known about why there may be no SVID. It is guarded by
// Source.mu.
type report struct {
	answered bool          // the Workload API answered at least once, the files were judged
	failing  time.Time     // since when no answer was acceptable; zero while one was
	offered  []spiffeid.ID // in its last answer
	update   error         // why the last answer was refused; nil if it was not
	watch    error         // why the last watch failed; nil after an answer
	cache    error         // why the cache file was refused
}

// NotReadyError says why no usable SVID is held. errors.Is finds ErrNotReady, the
// end of the context and the causes in it.
type NotReadyError struct {
	// Want is the wanted ID; zero when any would do.
	Want spiffeid.ID
	// Offered lists what the Workload API offered last.
	Offered []spiffeid.ID
	// WorkloadAPI is the address that was asked; empty for files.
	WorkloadAPI string
	// Files is where the identity's files should be; empty for a Workload API.
	Files string
	// Feed names the feed that was followed; empty for the other two.
	Feed string
	// Causes hold the refused update, the failed watch, the refused cache file and
	// the end of the context, as far as they happened.
	Causes []error
}

// Error implements error.
func (e *NotReadyError) Error() string {
	var b strings.Builder
	b.WriteString(ErrNotReady.Error())
	if !e.Want.IsZero() {
		fmt.Fprintf(&b, ": want %s", e.Want)
	}
	if e.WorkloadAPI != "" {
		fmt.Fprintf(&b, ": workload api %s offered %v", e.WorkloadAPI, e.Offered)
	}
	if e.Files != "" {
		fmt.Fprintf(&b, ": files at %s hold %v", e.Files, e.Offered)
	}
	if e.Feed != "" {
		fmt.Fprintf(&b, ": %s offered %v", e.Feed, e.Offered)
	}
	for _, cause := range e.Causes {
		fmt.Fprintf(&b, ": %v", cause)
	}
	return b.String()
}

// Unwrap returns ErrNotReady and the causes.
func (e *NotReadyError) Unwrap() []error { return append([]error{ErrNotReady}, e.Causes...) }

// Ready returns nil while an SVID is held that is valid now, and otherwise a
// [*NotReadyError] or [*PeerError] that says what is missing.
func (s *Source) Ready() error {
	st := s.state.Load()
	if st.svid == nil {
		return s.notReady(nil)
	}
	if err := st.usable(s.now()); err != nil {
		return errors.Join(err, s.notReady(nil))
	}
	return nil
}

// WaitReady returns nil as soon as a usable SVID is held, from the Workload API,
// the files or the cache file. When ctx ends first, the error is a [*NotReadyError]: which
// ID was wanted, which were offered, by whom, and what went wrong.
func (s *Source) WaitReady(ctx context.Context) error {
	updates, cancel := s.Updates()
	defer cancel()
	for {
		if s.state.Load().usable(s.now()) == nil {
			return nil
		}
		select {
		case <-updates:
		case <-ctx.Done():
			return s.notReady(context.Cause(ctx))
		}
	}
}

func (s *Source) notReady(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &NotReadyError{Want: s.opts.ID, Offered: s.last.offered, WorkloadAPI: s.opts.WorkloadAPI}
	pending := "the workload api has not answered"
	if s.opts.Files != nil {
		e.Files, pending = s.opts.Files.String(), "the files have not been read"
	}
	if s.opts.Feed != nil {
		e.Feed, pending = s.opts.Feed.String(), "it has not answered"
	}
	if s.last.watch == nil && !s.last.answered && !s.static {
		e.Causes = append(e.Causes, errors.New(pending))
	}
	for _, err := range []error{s.last.update, s.last.watch, s.last.cache, cause} {
		if err != nil {
			e.Causes = append(e.Causes, err)
		}
	}
	return e
}
