package estate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
	"github.com/isthmus-mesh/isthmus/internal/handover"
)

// Offer is what a successor is handed.
type Offer struct {
	Files []handover.File
	State any

	slot   generation.Slot
	copies []*os.File
}

// Close closes what was opened for the offer: the successor has its own descriptors.
func (o *Offer) Close() {
	for _, f := range o.copies {
		_ = f.Close() // it was of no more use
	}
}

// Offer makes room for a successor: its slot among the sockets of the link port, through
// which it may dial at once. linked are the clusters to which there is a link.
func (e *Estate) Offer(linked []string) (o *Offer, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pulse == nil || len(e.sockets) == 0 {
		return nil, handover.ErrUnsupported
	}
	slot, ok := e.live.Next(len(e.sockets))
	if !ok {
		return nil, fmt.Errorf("%d processes of this gateway still finish their streams: wait until one has ended", len(e.before)+1)
	}
	if int(slot) == len(e.sockets) {
		fd, err := e.anotherSocket()
		if err != nil {
			return nil, fmt.Errorf("link port: %w", err)
		}
		e.sockets = append(e.sockets, fd)
	}
	st := state{Subject: e.subject, Generation: e.generation, Slot: slot, Live: e.live.With(slot), Linked: linked}
	if err := e.steer(st.Live, e.slot); err != nil {
		return nil, err
	}
	o = &Offer{slot: slot}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	for _, fd := range e.sockets {
		o.Files = append(o.Files, handover.File{Name: socketName, FD: fd})
	}
	for _, p := range e.before {
		st.Before = append(st.Before, ancestor{Generation: p.Generation, Slot: p.slot})
		o.add(pulseName, p.far)
	}
	st.Before = append(st.Before, ancestor{Generation: e.generation, Slot: e.slot})
	o.add(pulseName, e.pulse.Far())
	for s := range e.open {
		f, err := s.file()
		if errors.Is(err, net.ErrClosed) {
			continue // just now
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		o.copies = append(o.copies, f)
		fd, err := descriptor(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		o.Files = append(o.Files, handover.File{Name: s.name, FD: fd})
	}
	o.State = st
	return o, nil
}

func (o *Offer) add(name string, f *os.File) {
	if fd, err := descriptor(f); err == nil { // it is open: the estate has it
		o.Files = append(o.Files, handover.File{Name: name, FD: fd})
	}
}

// anotherSocket opens one more socket at the link port. mu is held.
func (e *Estate) anotherSocket() (fd int, err error) {
	conn, err := udp(e.sockets[0])
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // a copy
	next, err := generation.Successor(conn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = next.Close() }() // the copy keeps it open
	return duplicate(next)
}

// steer tells the kernel. mu is held.
func (e *Estate) steer(live generation.Live, newest generation.Slot) error {
	conn, err := udp(e.sockets[0])
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // a copy
	if err := generation.Steer(conn, live, newest); err != nil {
		return err
	}
	e.live, e.newest = live, newest
	return nil
}

// PassOn sends new connections to the successor.
func (e *Estate) PassOn(o *Offer) error {
	e.unwatch() // the successor hears of those before from now on, and steers
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.steer(e.live, o.slot)
}

// TakeBack undoes Offer and PassOn: the successor is no more.
func (e *Estate) TakeBack(o *Offer) error {
	e.mu.Lock()
	err := e.steer(e.live.Without(o.slot), e.slot)
	e.mu.Unlock()
	e.Watch()
	return err
}

// TakeOver is for the successor: it serves, also where the process before ended before
// it could pass on.
func (e *Estate) TakeOver() error {
	e.mu.Lock()
	var err error
	if e.newest != e.slot {
		err = e.steer(e.live, e.slot)
	}
	e.mu.Unlock()
	e.Watch()
	return err
}

// Fare is what a process that has a successor tells of itself.
type Fare struct {
	Streams     int64 `json:"streams"`     // and requests, on links
	Connections int64 `json:"connections"` // of callers
}

// Tell lets the successors know.
func (e *Estate) Tell(f Fare) { e.pulse.Say(f) }

// Predecessor is a process before this one that still finishes its streams.
type Predecessor struct {
	Generation int
	Fare       Fare

	slot generation.Slot
	far  *os.File
}

// Watch begins to follow the processes before this one. One that ends leaves its slot,
// and its packets come here, to be told that their connection is gone.
func (e *Estate) Watch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != nil {
		return
	}
	stop := make(chan struct{})
	e.stop = stop
	for _, p := range e.before {
		e.wg.Go(func() {
			ended := handover.Listen(p.far, stop, func(word json.RawMessage) {
				var f Fare
				if json.Unmarshal(word, &f) == nil {
					e.mu.Lock()
					p.Fare = f
					e.mu.Unlock()
				}
			})
			if ended {
				e.forget(p)
			}
		})
	}
}

func (e *Estate) forget(p *Predecessor) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := make([]*Predecessor, 0, len(e.before))
	for _, o := range e.before {
		if o != p {
			before = append(before, o)
		}
	}
	e.before = before
	_ = p.far.Close() // it has ended
	if e.sockets != nil && e.newest == e.slot {
		// Fails where it never could be steered; the worst is that peers find out by
		// their probes.
		_ = e.steer(e.live.Without(p.slot), e.slot)
	}
}

// unwatch ends Watch.
func (e *Estate) unwatch() {
	e.mu.Lock()
	stop := e.stop
	e.stop = nil
	e.mu.Unlock()
	if stop != nil {
		close(stop)
	}
	e.wg.Wait()
}

// Predecessors are the processes before this one that still finish their streams.
func (e *Estate) Predecessors() []Predecessor {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Predecessor, len(e.before))
	for i, p := range e.before {
		all[i] = *p
	}
	return all
}
