package exchange

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// EventType is the "type" of a line.
type EventType string

// The events of format 1.
const (
	Begin     EventType = "begin"
	Service   EventType = "service"
	Remove    EventType = "remove"
	Roster    EventType = "roster"
	Bundle    EventType = "bundle"
	Conflicts EventType = "conflicts"
	Sync      EventType = "sync"
	Heartbeat EventType = "heartbeat"
)

// Event is one line of the stream; which fields count depends on Type. Values of
// items stay as the bytes that were sent, since the digest is over those.
type Event struct {
	Type EventType `json:"type"`

	Format  int    `json:"format,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Delta   bool   `json:"delta,omitempty"`
	Since   uint64 `json:"since,omitempty"`

	// Services is how many services the origin has after the batch.
	Services int    `json:"services,omitempty"`
	Digest   string `json:"digest,omitempty"`

	// Name is the service that is removed.
	Name string `json:"name,omitempty"`

	Service   json.RawMessage `json:"service,omitempty"`
	Gateways  json.RawMessage `json:"gateways,omitempty"`
	Bundle    json.RawMessage `json:"bundle,omitempty"`
	Conflicts json.RawMessage `json:"conflicts,omitempty"`

	// Labels are the origin's own, on each begin; a version that knows none passes over
	// them. The digest is not over them.
	Labels map[string]string `json:"labels,omitempty"`

	// summary is what Service says, where it is written as this version writes it.
	summary *catalog.Summary
}

// maxDepth bounds the nesting of one line; format 1 needs six.
const maxDepth = 16

// ParseEvent reads one line. It refuses what is not exactly one JSON object of
// valid UTF-8 with each name once (names that differ in case only count as the
// same, since the decoder takes them so), and values of the wrong type. The
// values of items are not looked into beyond that. The Event shares line's
// memory nowhere.
func ParseEvent(line []byte) (*Event, error) {
	if !utf8.Valid(line) {
		return nil, refuse(ReasonProtocol, "line is not UTF-8")
	}
	if e := parsePlain(line); e != nil && e.Type != "" {
		return e, nil
	}
	e := new(Event)
	err := json.Unmarshal(line, e)
	if err != nil || !plainNames(line) {
		if err := cmp.Or(checkNames(line), err); err != nil {
			return nil, &RefusedError{Reason: ReasonProtocol, What: "line is no event", Err: err}
		}
	}
	if e.Type == "" {
		return nil, refuse(ReasonProtocol, "type: is missing")
	}
	return e, nil
}

// checkNames walks one JSON object.
func checkNames(line []byte) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var open []*nesting
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		top := len(open) - 1
		if top < 0 && token != json.Delim('{') {
			return errors.New("must be a JSON object")
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxDepth {
				return fmt.Errorf("nests deeper than %d", maxDepth)
			}
			if top >= 0 {
				open[top].value()
			}
			open = append(open, &nesting{object: token == json.Delim('{')})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			if len(open) == 0 {
				return onlySpace(line[d.InputOffset():])
			}
			continue
		}
		if err := open[top].scalar(token); err != nil {
			return err
		}
	}
}

func onlySpace(rest []byte) error {
	if len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("has more after the object")
	}
	return nil
}

// nesting is one open object or array.
type nesting struct {
	object bool
	// named: a name was read and its value is next.
	named bool
	names []string
}

func (n *nesting) value() { n.named = false }

// maxNames bounds the names of one object, so that finding repetitions stays
// cheap without a map. Labels and bundles are far below.
const maxNames = 64

func (n *nesting) scalar(token json.Token) error {
	if !n.object || n.named {
		n.value()
		return nil
	}
	name, ok := token.(string)
	if !ok {
		return errors.New("has an object without names")
	}
	if len(n.names) == maxNames {
		return fmt.Errorf("has an object with more than %d names", maxNames)
	}
	for _, other := range n.names {
		if strings.EqualFold(name, other) {
			return fmt.Errorf("has the name %.80q twice", name)
		}
	}
	n.names, n.named = append(n.names, name), true
	return nil
}
