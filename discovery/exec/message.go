package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Version is the version of the protocol.
const Version = 1

const (
	// MaxLine bounds one line; a service whose endpoints do not fit is sent in
	// several.
	MaxLine = 1 << 20
	// MaxTransaction bounds the bytes from begin to commit: a catalog of
	// catalog.MaxEndpoints endpoints with some labels.
	MaxTransaction = 512 << 20
	// maxMessage bounds the text of an error message.
	maxMessage = 4096
)

// message is one line; exactly one field is set.
type message struct {
	Hello     *helloMessage        `json:"hello,omitempty"`
	Begin     *beginMessage        `json:"begin,omitempty"`
	Service   *catalog.Service     `json:"service,omitempty"`
	Endpoints *endpointsMessage    `json:"endpoints,omitempty"`
	Remove    *catalog.ServiceName `json:"remove,omitempty"`
	Commit    *commitMessage       `json:"commit,omitempty"`
	Unchanged *struct{}            `json:"unchanged,omitempty"`
	Error     *errorMessage        `json:"error,omitempty"`
	// Reread goes the other way.
	Reread *struct{} `json:"reread,omitempty"`
}

type helloMessage struct {
	Version int `json:"version"`
}

type beginMessage struct {
	Full bool `json:"full"`
}

type endpointsMessage struct {
	Service   catalog.ServiceName `json:"service"`
	Endpoints []catalog.Endpoint  `json:"endpoints"`
}

type commitMessage struct {
	Services  int `json:"services"`
	Endpoints int `json:"endpoints"`
}

type errorMessage struct {
	Message string `json:"message"`
}

// count is the number of fields that are set.
func (m *message) count() int {
	n := 0
	for _, set := range []bool{
		m.Hello != nil, m.Begin != nil, m.Service != nil, m.Endpoints != nil, m.Remove != nil,
		m.Commit != nil, m.Unchanged != nil, m.Error != nil, m.Reread != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// parseMessage reads one line.
func parseMessage(line []byte) (*message, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var m message
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something after its object")
	}
	if n := m.count(); n != 1 {
		return nil, fmt.Errorf("must have exactly one key, has %d", n)
	}
	return &m, nil
}
