package switches

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	point durable.Point = "gateway-switches"
	kind  string        = "isthmus-switches 1"
	// file is the name in the data directory.
	file = "switches"
	// MaxReason bounds the text of a reason.
	MaxReason = 500
	maxFile   = 16 << 10
)

// Set is a switch that is on.
type Set struct {
	// By is who set it, as the command knows it.
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// State is all switches of one gateway; nil is off.
type State struct {
	// Freeze keeps the route table in force: nothing of the federation applies but
	// intentions that deny and the keys of peers.
	Freeze *Set `json:"freeze,omitempty"`
	// Pin sends calls to one place, wherever that has the service.
	Pin *Pin `json:"pin,omitempty"`
	// FailoverOff keeps calls in the clusters of their first tier.
	FailoverOff *Set `json:"failover_off,omitempty"`
}

// Pin is where calls are sent.
type Pin struct {
	Set
	// Place is a cluster, CLOUD/REGION or CLOUD.
	Place string `json:"place"`
}

// Any reports whether a switch is on.
func (s State) Any() bool { return s.Freeze != nil || s.Pin != nil || s.FailoverOff != nil }

// Routing is what decisions are told.
func (s State) Routing() route.Switches {
	r := route.Switches{FailoverOff: s.FailoverOff != nil}
	if s.Pin != nil {
		r.Pin = s.Pin.Place
	}
	return r
}

// String says what is on, and by whom.
func (s State) String() string {
	var on []string
	add := func(what string, x Set) {
		on = append(on, fmt.Sprintf("%s by %s since %s (%s)", what, x.By, x.At.UTC().Format(time.RFC3339), x.Reason))
	}
	if s.Freeze != nil {
		add("frozen", *s.Freeze)
	}
	if s.Pin != nil {
		add("pinned to "+s.Pin.Place, s.Pin.Set)
	}
	if s.FailoverOff != nil {
		add("failover off", *s.FailoverOff)
	}
	return strings.Join(on, "; ")
}

// Validate reports every problem.
func (s State) Validate() error {
	var found []error
	check := func(field string, x *Set) {
		switch {
		case x == nil:
		case strings.TrimSpace(x.Reason) == "":
			found = append(found, fmt.Errorf("%s.reason %q: is required", field, x.Reason))
		case len(x.Reason) > MaxReason:
			found = append(found, fmt.Errorf("%s.reason: has %d bytes, at most %d", field, len(x.Reason), MaxReason))
		}
	}
	check("freeze", s.Freeze)
	check("failover_off", s.FailoverOff)
	if s.Pin != nil {
		check("pin", &s.Pin.Set)
		if err := route.CheckPlace(s.Pin.Place); err != nil {
			found = append(found, fmt.Errorf("pin.place %q: %w", s.Pin.Place, err))
		}
	}
	return errors.Join(found...)
}

// Load reads the switches of a data directory; without a file all are off. damage is
// of a half of the file that the other half makes up for.
func Load(dir string) (s State, damage, err error) {
	f, err := os.Open(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil, nil
	}
	if err != nil {
		return State{}, nil, err
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, 0, 1024)
	buffer := bytes.NewBuffer(data)
	if _, err := buffer.ReadFrom(&limited{f, maxFile + 1}); err != nil {
		return State{}, nil, err
	}
	if buffer.Len() > maxFile {
		return State{}, nil, fmt.Errorf("switches: longer than %d bytes", maxFile)
	}
	body, damage, err := durable.Open(kind, buffer.Bytes())
	if err != nil {
		return State{}, damage, fmt.Errorf("switches: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields() // a switch that is not known would not be obeyed
	if err := d.Decode(&s); err != nil {
		return State{}, damage, fmt.Errorf("switches: %w", err)
	}
	return s, damage, s.Validate()
}

type limited struct {
	f    *os.File
	left int
}

// Read reads at most what is left.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("switches: the file is too long")
	}
	n, err := l.f.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// Save writes the switches of a data directory.
func Save(dir string, s State) error {
	if err := s.Validate(); err != nil {
		return err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return point.Replace(filepath.Join(dir, file), 0o600, func(f *durable.File) error {
		_, err := f.Write(durable.Seal(kind, body))
		return err
	})
}
