package wire

import (
	"math"
	"time"
)

// Load is what a gateway tells one peer's gateway about capacity, in both
// directions: what it offers of its own cluster's services, and what it would
// send to those of the receiver's. It replaces the Load before it as a whole.
//
// It is apart from [Report], whose rows have no room for more: a gateway that does
// not know the frame skips it, and goes on by the counts of ready endpoints alone.
// What is still to be said of a service's load becomes a new even field of a row,
// which older gateways skip.
type Load struct {
	// Seq numbers the sender's loads from 1, with gaps; Heard is the Seq of the
	// receiver's load that the sender heard last, 0 before the first. So an end knows
	// that a grant which it has lowered is no longer used, before its lease is over.
	Seq, Heard uint64
	// Offers are services of the sender's cluster, by its names; Wants those of the
	// receiver's cluster, by the receiver's names. Both are sorted by (Service,
	// Port), without duplicates; at most [MaxReportServices] each.
	Offers, Wants []ServiceLoad
}

// ServiceLoad is one service (and port). All counts are of calls at once.
type ServiceLoad struct {
	// Service is "name.namespace", Port the port's name.
	Service, Port string
	// Capacity is what the sending gateway may carry to ready endpoints; 0 means
	// that it is not known, and then nothing is granted or withheld.
	Capacity uint64
	// InFlight counts calls in progress: of an offer all that the sender carries to
	// its endpoints, of a want those from the sender to the receiver.
	InFlight uint64
	// Spare is what the sender's own callers leave of Capacity, for all peers' calls.
	// SpareDefault is what calls of default priority and above may use beyond it, since
	// own calls of low priority give way to them, and SpareCritical what critical ones
	// alone may, beyond both.
	Spare, SpareDefault, SpareCritical uint64
	// Granted is the receiver's part of Spare, for Lease, and so on. Grants to all
	// gateways together are never more than what is to spare, for each priority. Who
	// knows of no priorities uses Granted for all its calls.
	Granted, GrantedDefault, GrantedCritical uint64
	Lease                                    time.Duration
	// Want is how many calls the sender has that fit nowhere nearer. WantCritical and
	// WantLow are those parts of it; the others, and all of who knows of no priorities,
	// are of default priority.
	Want, WantCritical, WantLow uint64
	// Processing is how long the sender's endpoints take to answer lately, without
	// the waiting that its own count of calls explains; 0 is not known.
	Processing time.Duration
	// ZonesOut are the zones of the sender's cluster that it leaves out for now, as
	// ready as their endpoints may look: names by commas, in order, at most
	// [MaxZonesOut] bytes.
	ZonesOut string
}

// Types of a row's fields. Types are never reused.
const (
	loadService  = 1
	loadPort     = 3
	loadCapacity = 4
	loadInFlight = 6
	loadSpare    = 8
	loadGranted  = 10
	loadLease    = 12
	loadWant     = 14
	loadProcess  = 16 // in microseconds
	loadZonesOut = 18

	loadSpareDefault    = 20
	loadSpareCritical   = 22
	loadGrantedDefault  = 24
	loadGrantedCritical = 26
	loadWantCritical    = 28
	loadWantLow         = 30
)

const (
	// MaxCalls bounds a count of calls at once.
	MaxCalls = math.MaxUint32
	// MaxLease bounds how long a grant may hold.
	MaxLease = time.Minute
	// MaxProcessing bounds what endpoints can be said to take.
	MaxProcessing = time.Hour
	// MaxZonesOut bounds the zones of a row.
	MaxZonesOut = 192
	// maxLoadRow bounds one row: the names, the zones, and a type, a length and up to 8
	// bytes for each number of an offer or a want. No row is both.
	maxLoadRow = 512
	// maxLoad bounds the body of a Load frame.
	maxLoad = 2*8 + 2*(2+MaxReportServices*maxLoadRow)
)

func (s *ServiceLoad) less(o *ServiceLoad) bool {
	if s.Service != o.Service {
		return s.Service < o.Service
	}
	return s.Port < o.Port
}

// rule returns what is wrong with a row, or "".
func (s *ServiceLoad) rule() string {
	switch {
	case s.Service == "" || len(s.Service) > maxServiceName || !visible(s.Service):
		return "has a service that is not 1 to 127 printable characters"
	case len(s.Port) > MaxName || !visible(s.Port):
		return "has a port that is not up to 63 printable characters"
	}
	for _, n := range [...]uint64{s.Capacity, s.InFlight, s.Want, s.Spare, s.SpareDefault, s.SpareCritical, s.Granted, s.GrantedDefault, s.GrantedCritical, s.WantCritical, s.WantLow} {
		if n > MaxCalls {
			return "has a count above 32 bits"
		}
	}
	byDefault, granted := s.Spare+s.SpareDefault, s.Granted+s.GrantedDefault
	switch {
	case s.Granted > s.Spare || granted > byDefault || granted+s.GrantedCritical > byDefault+s.SpareCritical:
		return "grants more than is to spare"
	case byDefault+s.SpareCritical > s.Capacity:
		return "has more to spare than its capacity"
	case granted+s.GrantedCritical > 0 && s.Lease <= 0:
		return "grants without a lease"
	case s.WantCritical+s.WantLow > s.Want:
		return "wants more of its priorities than of all"
	}
	if len(s.ZonesOut) > MaxZonesOut || !visible(s.ZonesOut) {
		return "has zones that are not up to 192 printable characters"
	}
	if s.Lease < 0 || s.Lease > MaxLease {
		return "has a lease above a minute"
	}
	return ""
}

// AppendLoad appends a load frame. Errors are of type [*FieldError].
func AppendLoad(b []byte, l *Load) ([]byte, error) {
	body := make([]byte, 0, 20+64*(len(l.Offers)+len(l.Wants)))
	body = appendVarint(body, min(l.Seq, maxVarint))
	body = appendVarint(body, min(l.Heard, maxVarint))
	for _, rows := range [...][]ServiceLoad{l.Offers, l.Wants} {
		if len(rows) > MaxReportServices {
			return b, &FieldError{Field: "load", Length: len(rows), Rule: "has more than 5000 services"}
		}
		body = appendVarint(body, uint64(len(rows)))
		for i := range rows {
			s := &rows[i]
			if rule := s.rule(); rule != "" {
				return b, &FieldError{Field: "load", Length: len(s.Service), Rule: rule}
			}
			if i > 0 && !rows[i-1].less(s) {
				return b, &FieldError{Field: "load", Length: len(s.Service), Rule: "is out of order or repeats a service"}
			}
			row := appendLoadRow(make([]byte, 0, maxLoadRow), s)
			if len(row) > maxLoadRow {
				return b, &FieldError{Field: "load", Length: len(row), Rule: "is longer than 512 bytes: it both offers and wants"}
			}
			body = append(appendVarint(body, uint64(len(row))), row...)
		}
	}
	return appendFrame(b, FrameLoad, body), nil
}

func appendLoadRow(row []byte, s *ServiceLoad) []byte {
	row = appendText(row, loadService, s.Service)
	row = appendText(row, loadPort, s.Port)
	row = appendNumber(row, loadCapacity, s.Capacity)
	row = appendNumber(row, loadInFlight, s.InFlight)
	row = appendNumber(row, loadSpare, s.Spare)
	row = appendNumber(row, loadGranted, s.Granted)
	row = appendNumber(row, loadLease, milliseconds(s.Lease, MaxLease))
	row = appendNumber(row, loadWant, s.Want)
	row = appendNumber(row, loadProcess, uint64(max(0, min(s.Processing, MaxProcessing)).Microseconds()))
	row = appendText(row, loadZonesOut, s.ZonesOut)
	row = appendNumber(row, loadSpareDefault, s.SpareDefault)
	row = appendNumber(row, loadSpareCritical, s.SpareCritical)
	row = appendNumber(row, loadGrantedDefault, s.GrantedDefault)
	row = appendNumber(row, loadGrantedCritical, s.GrantedCritical)
	row = appendNumber(row, loadWantCritical, s.WantCritical)
	return appendNumber(row, loadWantLow, s.WantLow)
}

// ParseLoad parses the body of a load frame. Its strings share one copy of b.
func ParseLoad(b []byte) (l Load, err error) {
	if len(b) > maxLoad {
		return Load{}, malformed("load", "is longer than its limit")
	}
	rest := string(b)
	if l.Seq, rest, err = parseVarint(rest); err != nil {
		return Load{}, err
	}
	if l.Heard, rest, err = parseVarint(rest); err != nil {
		return Load{}, err
	}
	if l.Offers, rest, err = parseLoadRows(rest); err != nil {
		return Load{}, err
	}
	if l.Wants, rest, err = parseLoadRows(rest); err != nil {
		return Load{}, err
	}
	if rest != "" {
		return Load{}, malformed("load", "has bytes after its last service")
	}
	return l, nil
}

func parseLoadRows(b string) (rows []ServiceLoad, rest string, err error) {
	count, rest, err := parseVarint(b)
	if err != nil {
		return nil, "", err
	}
	// A row is at least 4 bytes: no memory for rows that cannot be there.
	if count > MaxReportServices || count > uint64(len(rest)/4) {
		return nil, "", malformed("load", "announces more services than it can hold")
	}
	if count == 0 {
		return nil, rest, nil
	}
	rows = make([]ServiceLoad, count)
	for i := range rows {
		var row string
		if row, rest, err = parseString(rest, maxLoadRow); err != nil {
			return nil, "", err
		}
		if err := parseLoadRow(row, &rows[i]); err != nil {
			return nil, "", err
		}
		if i > 0 && !rows[i-1].less(&rows[i]) {
			return nil, "", malformed("load", "is out of order or repeats a service")
		}
	}
	return rows, rest, nil
}

func parseLoadRow(row string, s *ServiceLoad) error {
	f := fields{rest: row}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var lease, micros uint64
		switch typ {
		case loadService:
			s.Service = value
		case loadPort:
			s.Port = value
		case loadCapacity:
			s.Capacity, err = number("capacity", value, MaxCalls)
		case loadInFlight:
			s.InFlight, err = number("in flight", value, MaxCalls)
		case loadSpare:
			s.Spare, err = number("spare", value, MaxCalls)
		case loadGranted:
			s.Granted, err = number("granted", value, MaxCalls)
		case loadLease:
			lease, err = number("lease", value, uint64(MaxLease/time.Millisecond))
			s.Lease = time.Duration(lease) * time.Millisecond
		case loadWant:
			s.Want, err = number("want", value, MaxCalls)
		case loadProcess:
			micros, err = number("processing", value, uint64(MaxProcessing.Microseconds()))
			s.Processing = time.Duration(micros) * time.Microsecond
		case loadZonesOut:
			s.ZonesOut = value
		case loadSpareDefault:
			s.SpareDefault, err = number("spare for default priority", value, MaxCalls)
		case loadSpareCritical:
			s.SpareCritical, err = number("spare for critical priority", value, MaxCalls)
		case loadGrantedDefault:
			s.GrantedDefault, err = number("granted to default priority", value, MaxCalls)
		case loadGrantedCritical:
			s.GrantedCritical, err = number("granted to critical priority", value, MaxCalls)
		case loadWantCritical:
			s.WantCritical, err = number("want of critical priority", value, MaxCalls)
		case loadWantLow:
			s.WantLow, err = number("want of low priority", value, MaxCalls)
		default:
			err = unknown(typ)
		}
		if err != nil {
			return err
		}
	}
	if rule := s.rule(); rule != "" {
		return malformed("load", rule)
	}
	return nil
}
