package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// world is everything around the service: the peers' federations and the own
// gateways.
type world struct {
	size  size
	ca    *identitytest.CA
	talk  *talk
	peers []*peer
	turn  int // of remote changes

	mu       sync.Mutex
	gateways []*gateway
	sent     int // changes since the last tally
	tally    tally
	local    []arrival // of marks, which may be announced later than they are seen
}

// arrival is a mark at a gateway.
type arrival struct {
	weight uint32
	at     time.Time
}

// runWorld obeys orders until the other side closes.
func runWorld(ctx context.Context, s size, r io.Reader, w io.Writer) error {
	v := &world{size: s, ca: identitytest.NewCA(trustDomain), talk: newTalk(r, w)}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := v.greet(); err != nil {
		return err
	}
	for n := range s.Peers {
		p, err := newPeer(v, n)
		if err != nil {
			return err
		}
		v.peers = append(v.peers, p)
		wg.Go(func() { p.serve(ctx) })
	}
	stop := func() {}
	defer func() { stop() }()
	for {
		var o order
		if err := v.talk.dec.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				return nil
			}
			return err
		}
		var err error
		switch {
		case o.Mesh != "":
			err = v.start(ctx, &wg, o.Mesh)
		case o.Remote != 0:
			stop()
			if stop = func() {}; o.Remote > 0 {
				stop = v.changeRemotes(ctx, time.Second/time.Duration(o.Remote))
			}
		case o.Tally:
			err = v.tell(o.Local)
		}
		if err != nil {
			return errors.Join(err, v.talk.say(word{Err: err.Error()}))
		}
	}
}

// greet hands the service its identity.
func (v *world) greet() error {
	svid := v.ca.SVID(clusterID(v.ca, ownCluster))
	cert, key, err := svid.Marshal()
	if err != nil {
		return err
	}
	bundle, err := v.ca.Bundle().Marshal()
	if err != nil {
		return err
	}
	return v.talk.say(word{Hello: &hello{Certificate: cert, Key: key, Bundle: bundle}})
}

// start connects gateways and the peers' listeners to the service.
func (v *world) start(ctx context.Context, wg *sync.WaitGroup, mesh string) error {
	for n := range v.size.Gateways {
		g, err := newGateway(v, n, mesh)
		if err != nil {
			return err
		}
		v.mu.Lock()
		v.gateways = append(v.gateways, g)
		v.mu.Unlock()
		wg.Go(func() { g.run(ctx) })
	}
	for _, p := range v.peers {
		wg.Go(func() { p.listen(ctx, mesh) })
	}
	return nil
}

// changeRemotes changes rows of peers, one in each interval on average, until the function that
// it returns is called.
func (v *world) changeRemotes(ctx context.Context, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for due := time.Now().Add(around(every)); pause(ctx, time.Until(due)) == nil; due = due.Add(around(every)) {
			if err := v.changeRemote(); err != nil {
				_ = v.talk.say(word{Err: err.Error()})
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// changeRemote changes one row of one peer. The new capacity is the time.
func (v *world) changeRemote() error {
	const stride = 31
	p := v.peers[v.turn*stride%len(v.peers)]
	v.turn++
	v.mu.Lock()
	v.sent++
	v.mu.Unlock()
	return p.change(time.Now())
}

// tell gives the tally, with the changes of endpoints that were made, and begins
// the next.
func (v *world) tell(local []mark) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tally
	made := make(map[uint32]int64, len(local))
	for _, m := range local {
		made[m.Weight] = m.At
	}
	for _, a := range v.local {
		if at, ok := made[a.weight]; ok {
			t.Local = append(t.Local, a.at.UnixNano()-at)
		}
	}
	v.local = nil
	t.Sent = v.sent + len(local)
	t.Missing = t.Sent*len(v.gateways) - len(t.Local) - len(t.Remote)
	v.tally, v.sent = tally{}, 0
	return v.talk.say(word{Tally: &t})
}

// synced tells once that every gateway has everything.
func (v *world) synced() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range v.gateways {
		if !g.complete {
			return
		}
	}
	if len(v.gateways) == v.size.Gateways {
		_ = v.talk.say(word{Synced: true}) // a service that is gone needs no word
	}
}

// decodeSize reads the argument of a world process.
func decodeSize(text string) (size, error) {
	var s size
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("size: %w", err)
	}
	return s, nil
}
