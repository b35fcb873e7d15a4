package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// startWithin is generous: the first start of a run waits for the disk, and gateways for
// each other.
const startWithin = 60 * time.Second

// peer is one way from a caller to the service.
type peer struct {
	name string
	// only lists the workloads that it is for; none: all.
	only []string
	// start starts it in front of a service's address. What it started ends with b.
	start func(b *stage, service string, p parameters) (started, error)
}

// started is what a peer's start returns: what to call, and the pair's processes.
type started struct {
	target
	pids []int
}

var peers = []peer{
	{name: "direct", start: func(_ *stage, service string, _ parameters) (started, error) {
		return started{target: target{service, "service"}}, nil
	}},
	{name: "isthmus", start: startIsthmus},
	{name: "isthmus-http", only: []string{"w2"}, start: startIsthmusHTTP},
	{name: "haproxy", start: startHaproxy},
	{name: "nginx", start: startNginx},
}

func peerNames() []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

// missingError says which program this machine lacks.
type missingError struct{ peer, program, packages string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%s: no %s here; apt-get install %s, or make bench as root", e.peer, e.program, e.packages)
}

// program finds one of the operating system, also where Debian keeps servers.
func program(peer, name, packages string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", &missingError{peer, name, packages}
}

// pair is a peer that runs.
type pair struct {
	peer  peer
	stage *stage
	started
}

func startPair(ctx context.Context, name, service string, p parameters) (*pair, error) {
	is := peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == name })]
	dir, err := os.MkdirTemp("", "isthmus-pair-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r := &pair{peer: is, stage: &stage{ctx: ctx, dir: dir}}
	r.stage.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = r.stage.try(func() (err error) {
		r.started, err = is.start(r.stage, service, p)
		return err
	})
	if err == nil {
		err = await(ctx, r.target, startWithin, r.stage.alive)
	}
	if _, lacks := errors.AsType[*missingError](err); lacks {
		r.stop()
		return nil, err
	}
	if err != nil {
		r.stage.failed = true
		r.stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return r, nil
}

// stop ends the pair's processes.
func (r *pair) stop() { r.stage.end() }
