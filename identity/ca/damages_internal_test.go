package ca

import (
	"context"
	"errors"
	"log/slog"
)

// damages is a log that keeps errors.
type damages struct{ told []string }

func (d *damages) Enabled(context.Context, slog.Level) bool { return true }
func (d *damages) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *damages) WithGroup(string) slog.Handler            { return d }

func (d *damages) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		d.told = append(d.told, r.Message)
	}
	return nil
}

func (d *damages) err() error {
	if len(d.told) == 0 {
		return nil
	}
	return errors.New(d.told[0])
}
