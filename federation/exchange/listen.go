package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

var (
	errSilent = fmt.Errorf("nothing was heard for %v", silence)
	errEnded  = errors.New("the peer ended the stream")
)

// stream opens one stream and applies it until it ends. stable reports that
// the back-off starts anew: it was in sync for long enough, or the next one asks for
// something else.
func (i *Importer) stream(ctx context.Context) (stable bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	have, full := i.applier.Connected()
	resp, err := i.open(ctx, ask{watch: true, full: full, have: have})
	if err != nil {
		return false, causeOf(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	alive, err := upgradedOf(ctx, resp, i.opts.Now())
	switch {
	case err != nil:
	case alive != nil:
		err = checkType(resp, streamType)
	default:
		err = checkAnswer(resp, streamType)
	}
	if err != nil {
		return false, err
	}
	i.log.Debug("exchange open", "epoch", have.Epoch, "version", have.Version)

	lines := bufio.NewReaderSize(resp.Body, lineBuffer)
	var syncedAt time.Time
	for {
		line, err := readLine(lines, i.opts.Limits.Line)
		if err != nil {
			return isStable(syncedAt, i.opts.Now()), causeOf(ctx, err)
		}
		watchdog.Reset(silence)
		now := i.opts.Now()
		effect, err := i.applier.Apply(line, now)
		if err != nil {
			// Where a delta did not fit, a full list is asked for: no reason to wait.
			return isStable(syncedAt, now) || i.applier.needFull && !full, err
		}
		if effect.Synced && syncedAt.IsZero() {
			syncedAt = now
			i.log.Info("exchange in sync", "epoch", i.applier.Snapshot().Position().Epoch, "version", i.applier.Snapshot().Position().Version)
		}
		i.took(effect, now)
		if err := alive.lives(now); err != nil {
			return isStable(syncedAt, now), causeOf(ctx, err)
		}
	}
}

func isStable(syncedAt, now time.Time) bool {
	return !syncedAt.IsZero() && now.Sub(syncedAt) >= stableAfter
}

// took publishes what a line led to: every line that is taken renews the lease.
func (i *Importer) took(effect Effect, now time.Time) {
	if effect.Bundle != nil && i.opts.Bundle != nil {
		if err := i.opts.Bundle(effect.Bundle); err != nil {
			i.log.Warn("bundle refused, the one before stays", "err", err)
		}
	}
	i.mu.Lock()
	i.leaseFrom = now
	if effect.Changed {
		i.snapshot = i.applier.Snapshot()
	}
	i.mu.Unlock()
	wasLost := false
	changed := i.update(func(s *Status) {
		wasLost = s.ControlLost
		s.HeardAt, s.ControlLost = now, false
		if effect.Synced {
			s.State, s.Err = StateOK, nil
		} else if s.State == StateControlLost {
			s.State = StateConnecting
		}
	})
	if wasLost {
		signal(i.heard) // who watches the lease waits for this only then
	}
	if effect.Synced || wasLost { // once for the lines of a batch
		if i.series == nil {
			i.series = i.metrics.of(string(i.opts.Cluster))
		}
		i.series.heard.Set(float64(now.UnixMilli()) / 1e3)
		i.series.lost.Set(0)
	}
	if effect.Synced {
		i.series.connected.Set(1)
	}
	if effect.Changed {
		i.series.batches.Inc()
		i.series.holds(i.applier.Snapshot(), i.opts.Limits)
		signal(i.dirty)
	}
	i.notify(changed || effect.Changed)
}

// open asks for the stream, on a connection of its own where there is a client for
// that.
func (i *Importer) open(ctx context.Context, a ask) (*http.Response, error) {
	req, err := i.request(ctx, CatalogPath, a.query())
	if err != nil {
		return nil, err
	}
	if i.streams == nil {
		return i.client.Do(req)
	}
	askUpgrade(req)
	return i.streams.Do(req)
}

// request is one of the peer's federation.
func (i *Importer) request(ctx context.Context, path, query string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.opts.URL+path+"?"+query, http.NoBody)
	if err != nil {
		return nil, err
	}
	// Without this the transport would ask for gzip and unpack it, and a line's
	// bound would no longer bound what the peer sends.
	req.Header.Set("Accept-Encoding", "identity")
	return req, nil
}

// checkAnswer tells the peer's refusals from its troubles.
func checkAnswer(resp *http.Response, want string) error {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest:
		return refuse(ReasonDenied, "the peer's federation answers %d", resp.StatusCode)
	default:
		return fmt.Errorf("the peer's federation answers %d", resp.StatusCode)
	}
	return checkType(resp, want)
}

func checkType(resp *http.Response, want string) error {
	if got, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || got != want {
		return refuse(ReasonProtocol, "content type: value %.80q: must be %s", resp.Header.Get("Content-Type"), want)
	}
	return nil
}

// readLine returns one whole line without its newline, of at most limit bytes. A
// rest without a newline is torn and is no line. The line is valid until the
// next call.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(long)+len(part) > limit+1 {
			return nil, exceeds("line bytes", len(long)+len(part), limit)
		}
		switch {
		case err == nil && long == nil:
			return part[:len(part)-1], nil
		case err == nil:
			long = append(long, part...)
			return long[:len(long)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, part...)
		case errors.Is(err, io.EOF):
			return nil, errEnded
		default:
			return nil, err
		}
	}
}

// causeOf names the watchdog where it is what ended a request.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
