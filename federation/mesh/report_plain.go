package mesh

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// decodeReport reads a report as json.Unmarshal does. Nearly all of one are links: a
// gateway reports one for every cluster, every second, and each of them says almost
// what it said before. Those that are written as gateways write them are read
// without reflection, and share the texts of before.
func decodeReport(data []byte, before []route.LinkReport) (*route.Report, error) {
	if links, rest, ok := cutLinks(data, before); ok {
		r := new(route.Report)
		if err := json.Unmarshal(rest, r); err == nil && r.Links == nil {
			r.Links = links
			return r, nil
		}
	}
	r := &route.Report{Links: make([]route.LinkReport, 0, len(before))}
	return r, json.Unmarshal(data, r)
}

// cutLinks reads the links of a report, and returns the report without them; false
// where they are not written as gateways write them.
func cutLinks(data []byte, before []route.LinkReport) (links []route.LinkReport, rest []byte, ok bool) {
	// Within a text the quotes would be escaped: this is a name.
	const key = `,"links":[`
	at := bytes.Index(data, []byte(key))
	if at < 1 || !topLevel(data[:at]) {
		return nil, nil, false
	}
	p := plain{rest: data[at+len(key):]}
	links = make([]route.LinkReport, 0, len(before))
	for {
		var was *route.LinkReport
		if len(links) < len(before) {
			was = &before[len(links)]
		}
		var l route.LinkReport
		if !p.link(&l, was) {
			return nil, nil, false
		}
		links = append(links, l)
		if p.byte(',') {
			continue
		}
		// What is left must not be joined to something else, or become whole by it.
		if !p.byte(']') || len(p.rest) == 0 || p.rest[0] != ',' && p.rest[0] != '}' || data[at-1] == '{' {
			return nil, nil, false
		}
		rest = append(append(make([]byte, 0, at+len(p.rest)), data[:at]...), p.rest...)
		return links, rest, !bytes.Contains(bytes.ToLower(rest), []byte(`"links"`))
	}
}

// topLevel reports whether what follows the text stands in its outermost object.
func topLevel(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return depth == 1 && !quoted
}

// plain reads JSON without space and without escapes.
type plain struct{ rest []byte }

func (p *plain) byte(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// quoted reads a text of printable ASCII.
func (p *plain) quoted() (text []byte, ok bool) {
	if !p.byte('"') {
		return nil, false
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			text, p.rest = p.rest[:i], p.rest[i+1:]
			return text, true
		case c == '\\' || c < ' ' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

// text reads one, which shares the memory of before if it says the same.
func (p *plain) text(before string) (string, bool) {
	text, ok := p.quoted()
	if ok && string(text) == before {
		return before, true
	}
	return string(text), ok
}

func (p *plain) truth() (value, ok bool) {
	for _, word := range []string{"true", "false"} {
		if after, found := bytes.CutPrefix(p.rest, []byte(word)); found {
			p.rest = after
			return word == "true", true
		}
	}
	return false, false
}

// count reads a number of digits alone, of which the first is no 0 but in 0.
func (p *plain) count(most uint64) (uint64, bool) {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	if n == 0 || n > 1 && p.rest[0] == '0' {
		return 0, false
	}
	value, err := strconv.ParseUint(string(p.rest[:n]), 10, 64)
	p.rest = p.rest[n:]
	return value, err == nil && value <= most
}

// part reads a number from 0 on, with what follows its point.
func (p *plain) part() (float64, bool) {
	begun := p.rest
	if _, ok := p.count(math.MaxUint64); !ok {
		return 0, false
	}
	if p.byte('.') {
		n := 0
		for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
			n++
		}
		if n == 0 {
			return 0, false
		}
		p.rest = p.rest[n:]
	}
	value, err := strconv.ParseFloat(string(begun[:len(begun)-len(p.rest)]), 64)
	return value, err == nil
}

// link reads an object. What it does not know, another version's field for one, it
// leaves to the slow way.
func (p *plain) link(l, was *route.LinkReport) bool {
	if was == nil {
		was = new(route.LinkReport)
	}
	if !p.byte('{') {
		return false
	}
	for {
		name, ok := p.quoted()
		if !ok || !p.byte(':') || !p.field(string(name), l, was) {
			return false
		}
		if p.byte('}') {
			return true
		}
		if !p.byte(',') {
			return false
		}
	}
}

func (p *plain) field(name string, l, was *route.LinkReport) (ok bool) {
	switch name {
	case "cluster":
		var text string
		if text, ok = p.text(string(was.Cluster)); ok {
			name, err := catalog.ParseClusterName(text)
			l.Cluster, ok = name, err == nil
		}
	case "gateway":
		l.Gateway, ok = p.text(was.Gateway)
	case "address":
		l.Address, ok = p.text(was.Address)
	case "dialed":
		l.Dialed, ok = p.truth()
	case "state":
		l.State, ok = p.text(was.State)
	case "reason":
		l.Reason, ok = p.text(was.Reason)
	case "transport":
		l.Transport, ok = p.text(was.Transport)
	case "peer_serial":
		l.PeerSerial, ok = p.text(was.PeerSerial)
	case "peer_authority_key_id":
		l.PeerAuthority, ok = p.text(was.PeerAuthority)
	case "since":
		ok = p.time(&l.Since)
	case "expires":
		ok = p.time(&l.Expires)
	case "peer_not_after":
		ok = p.time(&l.PeerNotAfter)
	case "loss":
		l.Loss, ok = p.part()
	default:
		ok = p.figure(name, l)
	}
	return ok
}

func (p *plain) time(t *time.Time) bool {
	text, ok := p.quoted()
	return ok && t.UnmarshalText(text) == nil
}

// figure reads a field that is a whole number.
func (p *plain) figure(name string, l *route.LinkReport) bool {
	var of struct {
		span  *time.Duration
		count *int
		bytes *uint64
	}
	most := uint64(math.MaxInt64)
	switch name {
	case "connections":
		of.count = &l.Connections
	case "streams":
		of.count = &l.Streams
	case "rtt_ns":
		of.span = &l.RTT
	case "min_rtt_ns":
		of.span = &l.MinRTT
	case "jitter_ns":
		of.span = &l.Jitter
	case "bandwidth_out_bytes_per_second":
		of.bytes = &l.BandwidthOut
	case "bandwidth_in_bytes_per_second":
		of.bytes = &l.BandwidthIn
	case "bytes_sent":
		of.bytes = &l.BytesSent
	case "bytes_received":
		of.bytes = &l.BytesReceived
	default:
		return false
	}
	if of.bytes != nil {
		most = math.MaxUint64
	}
	if of.count != nil {
		most = math.MaxInt
	}
	n, ok := p.count(most)
	switch {
	case of.span != nil:
		*of.span = time.Duration(n)
	case of.count != nil:
		*of.count = int(n)
	default:
		*of.bytes = n
	}
	return ok
}
