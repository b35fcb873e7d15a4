package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	start func(b *stage, service string, at place, p parameters) (started, error)
}

// started is what a peer's start returns: what to call, and the pair's processes.
type started struct {
	target
	pids []int
}

// otherPeer is isthmus by another build.
const otherPeer = "isthmus-other"

// allPeers are in the order of the report.
var allPeers = []peer{
	{name: "direct", start: startDirect},
	{name: "isthmus", start: startIsthmus},
	{name: "isthmus-http", only: []string{"w2"}, start: startIsthmusHTTP},
	{name: otherPeer, start: startOther},
	{name: "haproxy", start: startHaproxy},
	{name: "nginx", start: startNginx},
}

func startDirect(_ *stage, service string, at place, _ parameters) (started, error) {
	_, port, err := net.SplitHostPort(service)
	return started{target: target{net.JoinHostPort(at.there, port), "service"}}, err
}

func peerNames() []string {
	var names []string
	for _, p := range allPeers {
		if p.name != otherPeer { // it is there by -against
			names = append(names, p.name)
		}
	}
	return names
}

func peerOf(name string) peer {
	return allPeers[slices.IndexFunc(allPeers, func(p peer) bool { return p.name == name })]
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
	at    place
	started
}

func startPair(ctx context.Context, name, service string, at place, p parameters) (*pair, error) {
	is := peerOf(name)
	dir, err := os.MkdirTemp("", "isthmus-pair-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r := &pair{peer: is, at: at, stage: &stage{ctx: ctx, dir: dir}}
	r.stage.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = r.stage.try(func() (err error) {
		r.started, err = is.start(r.stage, service, at, p)
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
