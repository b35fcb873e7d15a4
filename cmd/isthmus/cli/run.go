package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/cmd/internal/buildinfo"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/process"
	"github.com/isthmus-mesh/isthmus/internal/handover"
	"github.com/isthmus-mesh/isthmus/internal/processors"
	"github.com/isthmus-mesh/isthmus/internal/timerslack"
)

func newRun() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "run",
		Short: "Play the roles of the configuration file: federation, gateway or both",
		Long: `Play the roles of the configuration file until SIGTERM or SIGINT, then drain: a
gateway tells its peers, takes nothing new and lets what it carries finish. A second
signal ends the process at once.

SIGHUP reads the file again: peers, exports, imports, intentions and traffic policies
change at once. A file with a problem, or with a change that needs a restart, is
refused whole, and what runs goes on.

SIGUSR2, or isthmus upgrade, starts the program that now lies at this one's path with
the file as it is now. It takes a gateway's listeners and new links over when it is
ready; this process finishes what it carries, and goes.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			// Before anything is opened: it says which files are open already.
			inherited, err := handover.Inherit()
			if err != nil {
				return err
			}
			if inherited != nil {
				defer func() {
					if err != nil {
						inherited.Failed(err)
					}
				}()
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			log := newLogger(c.ErrOrStderr(), cfg.Log)
			if cfg.Federation != nil && cfg.Gateway == nil && c.Context().Err() == nil {
				if err := timerslack.Lengthen(); err != nil {
					log.Info("timers wake the process more often than they need to", "err", err)
				}
				go processors.Follow(c.Context())
			}
			context.AfterFunc(c.Context(), func() {
				log.Info("stopping", "reason", context.Cause(c.Context()))
			})
			changes := make(chan *config.Config)
			// From here on: one that came before would end the process.
			signals, upgrades := make(chan os.Signal, 1), make(chan os.Signal, 1)
			signal.Notify(signals, syscall.SIGHUP)
			signal.Notify(upgrades, syscall.SIGUSR2)
			defer signal.Stop(upgrades)
			go reread(c.Context(), path, signals, changes, log)
			asked := process.Asked{Changes: changes, Upgrades: upgrades, Inherited: inherited}
			return process.Run(c.Context(), cfg, asked, log, buildinfo.Read().Version)
		},
	}
	configFlag(c, &path)
	return c
}

// reread hands on what the file holds at each SIGHUP, until ctx ends.
func reread(ctx context.Context, path string, signals chan os.Signal, changes chan<- *config.Config, log *slog.Logger) {
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		c, err := config.Load(path)
		if err != nil {
			log.Error("configuration not taken", "err", err)
			continue
		}
		select {
		case changes <- c:
		case <-ctx.Done():
			return
		}
	}
}

// newLogger writes to w in the form of the configuration, which is valid.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
