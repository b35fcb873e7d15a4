package catalog

import (
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Protocols are the known protocols, in the order of the documentation.
func Protocols() []Protocol { return []Protocol{TCP, HTTP, GRPC, TLS, UDP} }

// Valid reports whether p is one of Protocols.
func (p Protocol) Valid() bool { return slices.Contains(Protocols(), p) }

// Valid reports whether t is Plain or MTLS.
func (t Transport) Valid() bool { return t == Plain || t == MTLS }

// Healths are the known health states, from the best to the worst.
func Healths() []Health { return []Health{Passing, Unknown, Warning, Critical, Maintenance} }

// Valid reports whether h is one of Healths.
func (h Health) Valid() bool { return slices.Contains(Healths(), h) }

// Validate reports everything that is wrong with the service, as joined
// FieldErrors with paths such as "endpoints[3].weight".
func (s *Service) Validate() error {
	var p problems
	s.validate(&p)
	return p.err()
}

func (s *Service) validate(p *problems) {
	switch {
	case s.Name.IsZero():
		p.add("name", "", "is empty")
	case s.Name.IsFederation():
		p.add("name", s.Name.String(), "federation.* is reserved for the federation services themselves")
	}
	validatePorts(p, s.Ports)
	checkLabels(p, "meta", s.Meta, checkText)
	if n := len(s.Endpoints); n > MaxServiceEndpoints {
		p.add("endpoints", n, fmt.Sprintf("a service has at most %d endpoints", MaxServiceEndpoints))
		return
	}
	ids := make(map[string]int, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		var q problems
		e.validate(&q, s.Ports)
		if first, twice := ids[e.ID]; twice {
			q.add("id", e.ID, fmt.Sprintf("is the id of endpoints[%d], too", first))
		}
		ids[e.ID] = i
		if len(q.errs) > 0 {
			p.within(fmt.Sprintf("endpoints[%d]", i), &q)
		}
		if p.full() {
			p.dropped += len(s.Endpoints) - i - 1
			return
		}
	}
}

func (e *Endpoint) validate(p *problems, ports []Port) {
	if err := checkID(e.ID); err != nil { // not p.check: boxing every id costs an allocation
		p.add("id", e.ID, err.Error())
	}
	if !hasPort(ports, e.Port) {
		p.add("port", e.Port, "is no port of the service")
	}
	switch {
	case !e.Address.IsValid():
		p.add("address", "", "must be an IP address and a port")
	case e.Address.Port() == 0:
		p.add("address", e.Address, "port 0 cannot be dialed")
	case e.Address.Addr().Zone() != "":
		p.add("address", e.Address, "an IPv6 zone means something on one machine only")
	}
	if err := e.Locality.Validate(); err != nil {
		p.add("locality", e.Locality, err.Error())
	}
	if e.Weight < 1 || e.Weight > MaxWeight {
		p.add("weight", e.Weight, fmt.Sprintf("must be 1 to %d (an endpoint that is to get nothing is in maintenance)", MaxWeight))
	}
	if !e.Health.Valid() {
		p.add("health", string(e.Health), fmt.Sprintf("must be one of %v", Healths()))
	}
	e.validateTransport(p)
	checkLabels(p, "labels", e.Labels, checkLabelValue)
	if e.Source != "" {
		p.check("source", e.Source, checkLabel(e.Source))
	}
}

func (e *Endpoint) validateTransport(p *problems) {
	switch {
	case !e.Transport.Valid():
		p.add("transport", string(e.Transport), fmt.Sprintf("must be one of %v, or empty for plaintext", []Transport{MTLS}))
	case e.Transport == Plain && e.ServerID != "":
		p.add("server_id", e.ServerID, "is for transport mtls: nobody proves an identity in plaintext")
	case e.Transport == MTLS && e.ServerID == "":
		p.add("server_id", "", "is missing: transport mtls needs the SPIFFE ID that the endpoint must prove")
	case e.Transport == MTLS:
		if len(e.ServerID) > MaxSPIFFEIDLen {
			p.add("server_id", e.ServerID, fmt.Sprintf("has %d bytes, at most %d", len(e.ServerID), MaxSPIFFEIDLen))
		} else if id, err := spiffeid.FromString(e.ServerID); err != nil {
			p.add("server_id", e.ServerID, err.Error())
		} else if id.Path() == "" {
			p.add("server_id", e.ServerID, "names a whole trust domain, must name one service")
		}
	}
}

func validatePorts(p *problems, ports []Port) {
	switch n := len(ports); {
	case n == 0:
		p.add("ports", "", "a service has at least one port")
	case n > MaxPorts:
		p.add("ports", n, fmt.Sprintf("a service has at most %d ports", MaxPorts))
		return
	}
	for i, port := range ports {
		add := func(field, value, rule string) { p.add(fmt.Sprintf("ports[%d].%s", i, field), value, rule) }
		if err := checkLabel(port.Name); err != nil {
			add("name", port.Name, err.Error())
		}
		if !port.Protocol.Valid() {
			add("protocol", string(port.Protocol), fmt.Sprintf("must be one of %v", Protocols()))
		}
		if slices.ContainsFunc(ports[:i], func(o Port) bool { return o.Name == port.Name }) {
			add("name", port.Name, "is the name of two ports")
		}
	}
}

func hasPort(ports []Port, name string) bool {
	return slices.ContainsFunc(ports, func(p Port) bool { return p.Name == name })
}

func checkID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("is empty")
	case len(id) > MaxIDLen:
		return fmt.Errorf("has %d bytes, at most %d", len(id), MaxIDLen)
	}
	return checkText(id)
}

// checkText accepts what may be printed on one line of a terminal or a log.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("must be UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("must be printable, has %q", r)
		}
	}
	return nil
}

// CheckLabel reports why key and value cannot be a label of an endpoint:
// sources leave such labels out, rather than lose the endpoint.
func CheckLabel(key, value string) error {
	if err := checkLabelKey(key); err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if err := checkValue(value, checkLabelValue); err != nil {
		return fmt.Errorf("value of %q: %w", key, err)
	}
	return nil
}

// checkLabelValue refuses a comma besides what checkText does: it separates the
// labels of a subset's text form.
func checkLabelValue(s string) error {
	for i := range len(s) {
		if s[i] == ',' {
			return fmt.Errorf("must not contain a comma")
		}
	}
	return checkText(s)
}

func checkLabelKey(k string) error {
	if k == "" {
		return fmt.Errorf("is empty")
	}
	if len(k) > MaxLabelKeyLen {
		return fmt.Errorf("has %d bytes, at most %d", len(k), MaxLabelKeyLen)
	}
	for i := range len(k) {
		switch c := k[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '/', c == ':':
		default:
			return fmt.Errorf("must be of letters, digits and -_./:, has %q at %d", c, i)
		}
	}
	return nil
}

func checkValue(v string, text func(string) error) error {
	if len(v) > MaxLabelValueLen {
		return fmt.Errorf("has %d bytes, at most %d", len(v), MaxLabelValueLen)
	}
	return text(v)
}

func checkLabels(p *problems, field string, labels map[string]string, text func(string) error) {
	if len(labels) > MaxLabels {
		p.add(field, len(labels), fmt.Sprintf("at most %d", MaxLabels))
		return
	}
	for k, v := range labels {
		if err := checkLabelKey(k); err != nil {
			p.add(field, k, "a key "+err.Error())
			continue
		}
		if err := checkValue(v, text); err != nil {
			p.add(field+"."+k, v, err.Error())
		}
	}
}
