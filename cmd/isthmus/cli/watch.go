package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/client"
)

const (
	// redrawEvery is the least time between two states: a person reads, a burst of
	// changes is one.
	redrawEvery = 300 * time.Millisecond
	// watchRetry is the wait before a broken watch is opened again.
	watchRetry = 2 * time.Second
)

// watched is one list whose changes a command follows: it calls changed after
// each, until ctx ends.
type watched func(ctx context.Context, api *client.Client, changed func()) error

// changesOf follows one list.
func changesOf[T any](list func(*client.Client) client.Collection[T]) watched {
	return func(ctx context.Context, api *client.Client, changed func()) error {
		for _, err := range list(api).Watch(ctx, 0) {
			if errors.Is(err, client.ErrGone) {
				break // the caller begins anew, with the whole list
			}
			if err != nil {
				return err
			}
			changed()
		}
		return ctx.Err()
	}
}

// watch prints by show now and after changes of lists, until the command is
// interrupted. A federation that goes away is waited for.
func watch(c *cobra.Command, api *client.Client, lists []watched, show func() error) error {
	ctx, stop := context.WithCancel(c.Context())
	var follow sync.WaitGroup
	defer follow.Wait()
	defer stop()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, list := range lists {
		follow.Go(func() {
			for ctx.Err() == nil {
				if err := list(ctx, api, wake); err != nil && ctx.Err() == nil {
					_, _ = fmt.Fprintf(c.ErrOrStderr(), "isthmus: watch: %v; trying again\n", err)
				}
				pause(ctx, watchRetry)
				wake() // the show says whether anybody is there again
			}
		})
	}
	if err := show(); err != nil {
		return err // what fails at once is a mistake to be told
	}
	for pause(ctx, redrawEvery) {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if err := show(); err != nil && ctx.Err() == nil {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "isthmus: %v; trying again\n", err)
		}
	}
	return nil
}

// pause reports whether ctx lives after d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// screen begins a new state of a watch: on a terminal in place of the last one,
// elsewhere below it.
func screen(w io.Writer) {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			_, _ = io.WriteString(w, "\x1b[H\x1b[2J")
			return
		}
	}
	_, _ = fmt.Fprintf(w, "--- %s\n", time.Now().UTC().Format(time.RFC3339))
}

// printLine writes v as one line of JSON.
func printLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
