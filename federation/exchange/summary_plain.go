package exchange

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// A summary is written by every change of an own service, and read by every change
// of a peer's: what follows does both without reflection, and is held to what
// encoding/json does by tests and a fuzz target.

// encodeSummary is what json.Marshal writes.
func encodeSummary(s *catalog.Summary) (json.RawMessage, error) {
	const perRow, rest = 96, 160 // about; more grows
	value, ok := appendSummary(make([]byte, 0, rest+perRow*len(s.Rows)), s)
	if ok {
		return value, nil
	}
	return json.Marshal(s)
}

// appendSummary appends what json.Marshal writes; false where a text is not one that
// JSON writes as it is, or where there is no name.
func appendSummary(b []byte, s *catalog.Summary) ([]byte, bool) {
	if s.Service.IsZero() {
		return b, false
	}
	ok := true
	text := func(name, value string) {
		ok = ok && isPrintable(value)
		b = append(append(append(append(b, name...), '"'), value...), '"')
	}
	number := func(name string, n uint64) { b = strconv.AppendUint(append(b, name...), n, 10) }
	text(`{"service":`, s.Service.Name())
	b = append(b[:len(b)-1], '.')
	b = append(append(b, s.Service.Namespace()...), '"')
	ok = ok && isPrintable(s.Service.Namespace())
	if s.Ports == nil {
		b = append(b, `,"ports":null`...)
	} else {
		b = append(b, `,"ports":[`...)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		b = separate(b, i)
		text(`{"name":`, p.Name)
		text(`,"protocol":`, string(p.Protocol))
		b = append(b, '}')
	}
	if s.Ports != nil {
		b = append(b, ']')
	}
	if len(s.Rows) > 0 {
		b = append(b, `,"rows":[`...)
	}
	for i := range s.Rows {
		r := &s.Rows[i]
		b = separate(b, i)
		text(`{"port":`, r.Port)
		if r.Zone != "" {
			text(`,"zone":`, r.Zone)
		}
		if r.Subset != "" {
			text(`,"subset":`, r.Subset)
		}
		number(`,"ready":`, uint64(r.Ready))
		number(`,"total":`, uint64(r.Total))
		if r.Capacity != 0 {
			number(`,"capacity":`, r.Capacity)
		}
		b = append(b, '}')
	}
	if len(s.Rows) > 0 {
		b = append(b, ']')
	}
	return append(b, '}'), ok
}

func separate(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

// isPrintable reports whether JSON writes the text as it is: ASCII without what is
// escaped, or escaped for HTML.
func isPrintable(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// parsePlainSummary reads a value that is exactly what appendSummary writes of it,
// and returns nil for any other: that it is written as the value again proves all
// that the slow way would have to look for.
func parsePlainSummary(value []byte) *catalog.Summary {
	rest := value
	cut := func(text string) bool {
		after, ok := bytes.CutPrefix(rest, []byte(text))
		if ok {
			rest = after
		}
		return ok
	}
	if !cut(`{"service":`) {
		return nil
	}
	name, ok := cutText(&rest)
	if !ok || !cut(`,"ports":[`) {
		return nil
	}
	s := new(catalog.Summary)
	var err error
	if s.Service, err = catalog.ParseServiceName(string(name)); err != nil {
		return nil
	}
	s.Ports = []catalog.Port{}
	for !cut("]") {
		if len(s.Ports) > 0 && !cut(",") || !cut(`{"name":`) {
			return nil
		}
		port, ok := cutText(&rest)
		if !ok || !cut(`,"protocol":`) {
			return nil
		}
		protocol, ok := cutText(&rest)
		if !ok || !cut("}") {
			return nil
		}
		s.Ports = append(s.Ports, catalog.Port{Name: string(port), Protocol: catalog.Protocol(protocol)})
	}
	if cut(`,"rows":[`) {
		for !cut("]") {
			if len(s.Rows) > 0 && !cut(",") {
				return nil
			}
			r, ok := parsePlainRow(&rest)
			if !ok {
				return nil
			}
			s.Rows = append(s.Rows, r)
		}
	}
	if string(rest) != "}" {
		return nil
	}
	var room [512]byte
	if again, ok := appendSummary(room[:0], s); !ok || !bytes.Equal(again, value) {
		return nil
	}
	return s
}

// parsePlainRow reads one row off the front; what it does not notice shows when the
// row is written again.
func parsePlainRow(rest *[]byte) (r catalog.SummaryRow, ok bool) {
	if !cutByte(rest, '{') {
		return r, false
	}
	for {
		name, ok := cutText(rest)
		if !ok || !cutByte(rest, ':') {
			return r, false
		}
		var text *string
		switch string(name) {
		case "port":
			text = &r.Port
		case "zone":
			text = &r.Zone
		case "subset":
			text = &r.Subset
		}
		if text != nil {
			value, ok := cutText(rest)
			if !ok {
				return r, false
			}
			*text = string(value)
		} else if !plainCount(&r, string(name), rest) {
			return r, false
		}
		if cutByte(rest, '}') {
			return r, true
		}
		if !cutByte(rest, ',') {
			return r, false
		}
	}
}

// plainCount reads the number of one field of a row.
func plainCount(r *catalog.SummaryRow, name string, rest *[]byte) bool {
	digits := 0
	for digits < len(*rest) && (*rest)[digits] >= '0' && (*rest)[digits] <= '9' {
		digits++
	}
	bits := 32
	if name == "capacity" {
		bits = 64
	}
	n, err := strconv.ParseUint(string((*rest)[:digits]), 10, bits)
	*rest = (*rest)[digits:]
	switch name {
	case "ready":
		r.Ready = uint32(n)
	case "total":
		r.Total = uint32(n)
	case "capacity":
		r.Capacity = n
	default:
		return false
	}
	return err == nil
}
