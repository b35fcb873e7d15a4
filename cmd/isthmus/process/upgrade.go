package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/estate"
	"github.com/isthmus-mesh/isthmus/internal/handover"
)

// DefaultUpgradeTimeout is how long a successor may take to be ready: identity, table and
// links, each of which takes a second where all is well.
const DefaultUpgradeTimeout = time.Minute

// Why there is no upgrade.
var (
	errBoth = errors.New("upgrade in place: this process is the federation, too, whose store one process at a time has: " +
		"give the gateway a process of its own, or restart this one")
	errFirst = errors.New("upgrade in place: this process is the first of its container, which ends when it does: " +
		"start another container")
	errUDP       = errors.New("upgrade in place: gateway.listen.udp: its flows would not know their process; restart the gateway")
	errNoGateway = errors.New("upgrade in place: the configuration has no gateway any more")
)

// Asked is what is asked of a process that runs, and what it was handed at its start.
type Asked struct {
	// Changes brings configurations, Upgrades the wish for a successor.
	Changes  <-chan *config.Config
	Upgrades <-chan os.Signal
	// Inherited is what a predecessor handed over; nil: there is none.
	Inherited *handover.Inheritance
}

// estateOf is what the gateway of a configuration hands on and has been handed; nil: it
// has no successor and no predecessor.
func estateOf(c *config.Config, i *handover.Inheritance) (*estate.Estate, error) {
	if c.Federation != nil {
		if i != nil {
			return nil, errBoth
		}
		return nil, nil
	}
	s := estate.Subject{Cluster: c.Cluster.Name, Gateway: c.Gateway.Name, Link: c.Gateway.Link}
	if i == nil {
		return estate.New(s), nil
	}
	return estate.Inherit(s, i)
}

// upgrader does what is asked for by signal and by the socket in the data directory.
type upgrader struct {
	gateway *gateway.Gateway
	estate  *estate.Estate
	dir     string
	udp     bool // UDP services have listeners
	command handover.Command
	log     *slog.Logger
}

func newUpgrader(c *config.Config, g *gateway.Gateway, e *estate.Estate, log *slog.Logger) *upgrader {
	// The path and not the file: what lies there then is the new program.
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, _ = os.Executable() // else the start will say it
	}
	return &upgrader{
		gateway: g, estate: e, dir: c.Gateway.DataDir, udp: len(c.Gateway.UDP) > 0, log: log,
		command: handover.Command{Path: path, Args: os.Args},
	}
}

// run does what is asked for until ctx ends. A process without a gateway refuses.
func (u *upgrader) run(ctx context.Context, signals <-chan os.Signal) {
	if u == nil {
		<-ctx.Done()
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { u.serve(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		wg.Go(func() { // one that comes meanwhile is refused, and is to be heard of
			_, _ = u.upgrade(ctx, DefaultUpgradeTimeout) // logged
		})
	}
}

// upgrade starts a successor and returns its process when it serves.
func (u *upgrader) upgrade(ctx context.Context, within time.Duration) (pid int, err error) {
	defer func() {
		if err != nil {
			u.log.Error("upgrade refused, this process serves on", "err", err)
		}
	}()
	switch {
	case u.estate == nil:
		return 0, errBoth
	case u.udp:
		return 0, errUDP
	case os.Getpid() == 1:
		return 0, errFirst
	}
	select {
	case <-u.gateway.Serves():
	default:
		return 0, errors.New("this process does not serve yet")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("it was given %s", within))
	defer cancel()
	if pid, err = u.gateway.Upgrade(ctx, u.command); err != nil {
		return 0, err
	}
	// From here on the service manager watches over the successor.
	if _, err := daemon.SdNotify(false, "MAINPID="+strconv.Itoa(pid)); err != nil {
		u.log.Warn("the service manager cannot be told of the successor", "pid", pid, "err", err)
	}
	return pid, nil
}

// announce tells the service manager that the process has started: its configuration
// is good and its ports are its own. That it is ready for calls may take as long as its
// identity and its table do. Of a successor its predecessor tells.
func announce(ctx context.Context, u *upgrader, log *slog.Logger) {
	if u != nil {
		select {
		case <-u.gateway.Serves():
		case <-ctx.Done():
			return
		}
		if u.estate != nil && u.estate.Inherited() {
			return
		}
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("the service manager cannot be told", "err", err)
	}
}
