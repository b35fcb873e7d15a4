package wire

import "math"

// Report is what a gateway tells its peers about the load of its own cluster's
// services. It replaces the report before it as a whole.
type Report struct {
	// Services is sorted by (Service, Port), without duplicates; at most
	// [MaxReportServices].
	Services []ServiceReport
}

// ServiceReport is one service (and port) as the reporting gateway sees it now.
type ServiceReport struct {
	// Service is "name.namespace" as that cluster names it.
	Service string
	// Port is the port's name; empty means the whole service.
	Port string
	// Ready and Total count endpoints; Ready is at most Total.
	Ready, Total uint32
	// InFlight counts streams and requests in progress to those endpoints
	// through the reporting gateway.
	InFlight uint32
}

// maxServiceName is two DNS labels and the dot.
const maxServiceName = 2*MaxName + 1

// less orders rows.
func (s *ServiceReport) less(o *ServiceReport) bool {
	if s.Service != o.Service {
		return s.Service < o.Service
	}
	return s.Port < o.Port
}

// rule returns what is wrong with a row, or "".
func (s *ServiceReport) rule() string {
	switch {
	case s.Service == "" || len(s.Service) > maxServiceName || !visible(s.Service):
		return "has a service that is not 1 to 127 printable characters"
	case len(s.Port) > MaxName || !visible(s.Port):
		return "has a port that is not up to 63 printable characters"
	case s.Ready > s.Total:
		return "has more ready than total endpoints"
	}
	return ""
}

// AppendReport appends a report frame. Errors are of type [*FieldError].
func AppendReport(b []byte, r *Report) ([]byte, error) {
	if len(r.Services) > MaxReportServices {
		return b, &FieldError{Field: "report", Length: len(r.Services), Rule: "has more than 5000 services"}
	}
	body := appendVarint(make([]byte, 0, 2+64*len(r.Services)), uint64(len(r.Services)))
	for i := range r.Services {
		s := &r.Services[i]
		if rule := s.rule(); rule != "" {
			return b, &FieldError{Field: "report", Length: len(s.Service), Rule: rule}
		}
		if i > 0 && !r.Services[i-1].less(s) {
			return b, &FieldError{Field: "report", Length: len(s.Service), Rule: "is out of order or repeats a service"}
		}
		body = appendVarint(body, uint64(len(s.Service)))
		body = append(body, s.Service...)
		body = appendVarint(body, uint64(len(s.Port)))
		body = append(body, s.Port...)
		body = appendVarint(body, uint64(s.Ready))
		body = appendVarint(body, uint64(s.Total))
		body = appendVarint(body, uint64(s.InFlight))
	}
	return appendFrame(b, FrameReport, body), nil
}

// ParseReport parses the body of a report frame. Its strings share one copy of b.
func ParseReport(b []byte) (Report, error) {
	if len(b) > MaxFrame {
		return Report{}, malformed("report", "is longer than its limit")
	}
	count, rest, err := parseVarint(string(b))
	if err != nil {
		return Report{}, err
	}
	// A row is at least 6 bytes: no memory for rows that cannot be there.
	if count > MaxReportServices || count > uint64(len(rest)/6) {
		return Report{}, malformed("report", "announces more services than it can hold")
	}
	if count == 0 {
		if rest != "" {
			return Report{}, malformed("report", "has bytes after its last service")
		}
		return Report{}, nil
	}
	rows := make([]ServiceReport, count)
	for i := range rows {
		s := &rows[i]
		if s.Service, rest, err = parseString(rest, maxServiceName); err != nil {
			return Report{}, err
		}
		if s.Port, rest, err = parseString(rest, MaxName); err != nil {
			return Report{}, err
		}
		for _, n := range [...]*uint32{&s.Ready, &s.Total, &s.InFlight} {
			var v uint64
			if v, rest, err = parseVarint(rest); err != nil {
				return Report{}, err
			}
			if v > math.MaxUint32 {
				return Report{}, malformed("report", "has a count above 32 bits")
			}
			*n = uint32(v)
		}
		if rule := s.rule(); rule != "" {
			return Report{}, malformed("report", rule)
		}
		if i > 0 && !rows[i-1].less(s) {
			return Report{}, malformed("report", "is out of order or repeats a service")
		}
	}
	if rest != "" {
		return Report{}, malformed("report", "has bytes after its last service")
	}
	return Report{Services: rows}, nil
}

// parseString reads a string with its length before it.
func parseString(b string, limit int) (value, rest string, err error) {
	n, rest, err := parseVarint(b)
	if err != nil {
		return "", "", err
	}
	if n > uint64(limit) {
		return "", "", malformed("name", "is longer than its limit")
	}
	if n > uint64(len(rest)) {
		return "", "", errTruncated
	}
	return rest[:n], rest[n:], nil
}
