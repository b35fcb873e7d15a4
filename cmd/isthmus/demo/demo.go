package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/wan"
)

const (
	// DefaultRTT is the round trip between the two nearest clusters.
	DefaultRTT = 20 * time.Millisecond
	// readyWithin is how long the demo waits for its processes.
	readyWithin = 60 * time.Second
	// maxSocketPath is what every system takes as the path of a Unix socket.
	maxSocketPath = 100
)

// Options of Run.
type Options struct {
	// Dir keeps configuration, state and logs; "" means a temporary folder that
	// is removed at the end.
	Dir string
	// RTT between the two nearest clusters; the third is further away.
	RTT time.Duration
	// NoLive prints one line when ready and keeps quiet.
	NoLive bool
	// Binary is the program to run; it is copied to Dir/bin.
	Binary string
	Out    io.Writer
}

// Run stands the demo up, keeps it until ctx ends, and stops every process.
func Run(ctx context.Context, o Options) (err error) {
	dir, cleanup, err := workFolder(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	plan, err := NewPlan(dir, o.RTT, freePort())
	if err != nil {
		return err
	}
	d := &demo{opts: o, plan: plan, binary: filepath.Join(dir, "bin", "isthmus"), out: &lines{w: o.Out}}
	if err := copyBinary(o.Binary, d.binary); err != nil {
		return err
	}
	return d.run(ctx)
}

type demo struct {
	opts   Options
	plan   *Plan
	binary string
	out    *lines
	sup    *Supervisor

	stateMu sync.Mutex
}

func (d *demo) run(ctx context.Context) error {
	relays, err := d.relays()
	if err != nil {
		return err
	}
	if err := d.plan.WriteFiles(); err != nil {
		return err
	}
	d.sup = NewSupervisor(d.binary, d.plan.Processes(), d.onEvent)

	// The relays end after the processes: a gateway says goodbye through them.
	relayCtx, stopRelays := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRelays()
	group, ctx := errgroup.WithContext(ctx)
	var behind errgroup.Group
	for _, r := range relays {
		behind.Go(func() error { return r.Run(relayCtx) })
	}
	group.Go(func() error { return d.sup.Run(ctx) })
	group.Go(func() error { return serveControl(ctx, d.plan.Dir, socketPath(d.plan.Dir, "control.sock"), d.start) })
	group.Go(func() error { return d.show(ctx) })
	err = group.Wait()
	stopRelays()
	// demo.json says what runs, and nothing does
	gone := errors.Join(removeFile(filepath.Join(d.plan.Dir, "demo.json")), removeFile(filepath.Join(d.plan.Dir, controlFile)))
	return errors.Join(err, behind.Wait(), gone)
}

// relays puts the distance in front of every gateway and notes the address that
// peers dial.
func (d *demo) relays() ([]*wan.Relay, error) {
	home := map[netip.AddrPort]string{}
	for _, c := range d.plan.Clusters {
		for _, g := range c.Gateways {
			home[g.Link] = c.Name
		}
	}
	var relays []*wan.Relay
	for i := range d.plan.Clusters {
		c := &d.plan.Clusters[i]
		for j := range c.Gateways {
			g := &c.Gateways[j]
			r, err := wan.New(wan.Options{
				Listen: netip.AddrPortFrom(loopback, 0), Target: g.Link,
				Delay: func(source netip.AddrPort) time.Duration { return d.plan.OneWay(home[source], c.Name) },
			})
			if err != nil {
				return nil, err
			}
			g.Public = r.Addr()
			relays = append(relays, r)
		}
	}
	return relays, nil
}

// show starts everything, waits until it answers, and shows calls.
func (d *demo) show(ctx context.Context) error {
	begin := time.Now()
	if err := d.startAll(ctx); err != nil {
		return err
	}
	caller := NewCaller(d.ways(0))
	defer caller.Close()
	if err := d.awaitReady(ctx, caller); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%w; see %s", err, filepath.Join(d.plan.Dir, "logs"))
	}
	d.saveState()
	took := time.Since(begin).Round(100 * time.Millisecond)
	if d.opts.NoLive {
		d.out.print(fmt.Sprintf("ready after %s: %s", took, filepath.Join(d.plan.Dir, "demo.json")))
		<-ctx.Done()
		return nil
	}
	d.out.print(d.intro(took))
	watchCalls(ctx, caller, serviceNames[d.plan.Clusters[0].Name], func(s string) {
		d.out.print(time.Now().Format("15:04:05") + "  " + s)
	})
	return nil
}

func (d *demo) startAll(ctx context.Context) error {
	for _, p := range d.plan.Processes() {
		if p.Kind == KindFederation {
			// a federation reads its peers' bundles at start
			if err := d.awaitBundles(ctx); err != nil {
				return err
			}
		}
		if err := d.sup.Start(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) awaitBundles(ctx context.Context) error {
	for _, dom := range d.plan.Domains {
		err := await(ctx, "the CA of "+dom.TrustDomain, func() error {
			_, err := os.Stat(dom.Bundle)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits until every gateway is ready and every cluster's callers are
// answered from every cluster that runs the service.
func (d *demo) awaitReady(ctx context.Context, caller *Caller) error {
	for _, c := range d.plan.Clusters {
		for _, g := range c.Gateways {
			err := await(ctx, c.Name+"/"+g.Name, func() error { return checkReady(ctx, caller.client, g.Admin) })
			if err != nil {
				return err
			}
		}
	}
	for i, from := range d.plan.Clusters {
		for _, way := range d.ways(i) {
			near := &Caller{client: caller.client, ways: []string{way}}
			for _, to := range d.plan.Clusters {
				err := await(ctx, "billing of "+to.Name+" for callers in "+from.Name, func() error {
					_, err := near.CallIn(ctx, "billing", to.Name)
					return err
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func checkReady(ctx context.Context, client *http.Client, admin netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin.String()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 2048))
		return fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
	}
	return nil
}

// await polls check until it passes; the error says what was missing last.
func await(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not there after %s: %w", what, readyWithin, err)
		}
	}
}

// start serves `isthmus demo start NAME`.
func (d *demo) start(ctx context.Context, name string) ([]string, error) {
	dead, known := d.sup.Dead(name)
	if !known {
		var ids []string
		for _, p := range d.plan.Processes() {
			ids = append(ids, p.ID())
		}
		return nil, fmt.Errorf("no process is called %q; there are:\n  %s", name, strings.Join(ids, "\n  "))
	}
	if len(dead) == 0 {
		return nil, fmt.Errorf("%s runs already", name)
	}
	var started []string
	for _, p := range dead {
		if err := d.sup.Start(ctx, p); err != nil {
			return nil, err
		}
		started = append(started, fmt.Sprintf("%s pid %d", p.ID(), d.sup.PID(p.ID())))
	}
	d.saveState()
	return started, nil
}

func (d *demo) onEvent(e Event) {
	if !e.Ended {
		return
	}
	d.saveState()
	if !d.opts.NoLive {
		d.out.print(fmt.Sprintf("--- %s (pid %d) ended: %s. Start it again: %s demo start %s --dir %s",
			e.Process.ID(), e.PID, e.How, d.binary, e.Process.ID(), d.plan.Dir))
	}
}

// saveState keeps demo.json true; a process that does not run has pid 0.
func (d *demo) saveState() {
	d.stateMu.Lock()
	defer d.stateMu.Unlock()
	state := stateOf(d.plan, d.sup.PID, func(c Cluster) string {
		token, err := os.ReadFile(d.plan.tokenFile(c))
		if err != nil {
			return "" // its federation has not made one yet
		}
		return strings.TrimSpace(string(token))
	})
	if err := state.write(d.plan.Dir); err != nil {
		d.out.print("--- cannot write demo.json: " + err.Error())
	}
}

func (p *Plan) tokenFile(c Cluster) string {
	return filepath.Join(p.Dir, c.Name, "data", "federation", "api.token")
}

func (d *demo) ways(cluster int) []string {
	var out []string
	for _, g := range d.plan.Clusters[cluster].Gateways {
		out = append(out, g.HTTP.String())
	}
	return out
}

// socketPath is dir/name, or a short path elsewhere where that is too long for
// a Unix socket.
func socketPath(dir, name string) string {
	if p := filepath.Join(dir, name); len(p) <= maxSocketPath {
		return p
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-demo-%d-%s", os.Getpid(), filepath.Base(name)))
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// The demo's ports are below those that kernels hand out by themselves (from 32768
// on Linux, from 49152 on macOS): a process that was killed finds its own free when
// it is started again.
const (
	firstPort = 22_000
	portRange = 10_000
)

// freePort hands out loopback ports that are free now, for TCP and UDP, each
// once.
func freePort() func() (netip.AddrPort, error) {
	given := map[uint16]bool{}
	return func() (netip.AddrPort, error) {
		for range 1000 {
			a := netip.AddrPortFrom(loopback, firstPort+rand.N[uint16](portRange))
			ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a))
			if err != nil {
				continue
			}
			pc, udpErr := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
			if udpErr == nil {
				udpErr = pc.Close()
			}
			if err := ln.Close(); err != nil {
				return netip.AddrPort{}, err
			}
			if udpErr == nil && !given[a.Port()] {
				given[a.Port()] = true
				return a, nil
			}
		}
		return netip.AddrPort{}, errors.New("found no free loopback port in 1,000 tries")
	}
}
