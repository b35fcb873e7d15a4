package exchange

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// parsePlain reads a line that is exactly what append writes of an event: all that
// exporters of this version send, but for what is said to a peer alone. It returns
// nil for any other line, whatever is in it. That the event is written as the line
// again proves what the slow way would have to look for: no name is unknown, in
// another case or there twice, and no value is more than what was read.
func parsePlain(line []byte) *Event {
	if len(line) == 0 || line[len(line)-1] != '}' || line[0] != '{' {
		return nil
	}
	e := new(Event)
	for rest := line[1:]; ; {
		name, ok := cutText(&rest)
		if !ok || !cutByte(&rest, ':') {
			return nil
		}
		if string(name) == "service" { // the last field: all but the event's end
			value := rest[:len(rest)-1]
			// With no space around it, for digests are over the value's own bytes.
			if e.summary = parsePlainSummary(value); e.summary == nil &&
				(len(value) == 0 || value[0] != '{' || value[len(value)-1] != '}' || !json.Valid(value) || !plainNames(line)) {
				return nil
			}
			e.Service, rest = bytes.Clone(value), rest[len(value):]
		} else if !e.plainField(string(name), &rest) {
			return nil
		}
		if cutByte(&rest, ',') {
			continue
		}
		if string(rest) != "}" {
			return nil
		}
		break
	}
	var room [512]byte
	again, err := e.append(room[:0])
	if err != nil || !bytes.Equal(again[:len(again)-1], line) {
		return nil
	}
	return e
}

// plainField reads the value of a field that is text, a number or true.
func (e *Event) plainField(name string, rest *[]byte) bool {
	var text *string
	switch name {
	case "type":
		value, ok := cutText(rest)
		e.Type = EventType(value)
		return ok
	case "cluster":
		text = &e.Cluster
	case "digest":
		text = &e.Digest
	case "name":
		text = &e.Name
	case "delta":
		e.Delta = bytes.HasPrefix(*rest, []byte("true"))
		if e.Delta {
			*rest = (*rest)[len("true"):]
		}
		return e.Delta
	}
	if text != nil {
		value, ok := cutText(rest)
		*text = string(value)
		return ok
	}
	return e.plainNumber(name, rest)
}

func (e *Event) plainNumber(name string, rest *[]byte) bool {
	digits := 0
	for digits < len(*rest) && (*rest)[digits] >= '0' && (*rest)[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseUint(string((*rest)[:digits]), 10, 64)
	*rest = (*rest)[digits:]
	switch name {
	case "epoch":
		e.Epoch = n
	case "version":
		e.Version = n
	case "since":
		e.Since = n
	case "format":
		e.Format = int(n)
	case "services":
		e.Services = int(n)
	default:
		return false
	}
	return err == nil && n <= math.MaxInt
}

// cutText takes a text without escapes off the front.
func cutText(rest *[]byte) ([]byte, bool) {
	if !cutByte(rest, '"') {
		return nil, false
	}
	end := bytes.IndexByte(*rest, '"')
	if end < 0 {
		return nil, false
	}
	text := (*rest)[:end]
	*rest = (*rest)[end+1:]
	return text, true
}

func cutByte(rest *[]byte, c byte) bool {
	if len(*rest) == 0 || (*rest)[0] != c {
		return false
	}
	*rest = (*rest)[1:]
	return true
}
