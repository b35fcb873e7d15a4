package exchange

import (
	"encoding/json"
	"strconv"
)

// append writes the line of the event as json.Marshal does, with its end. Values
// of items are written as they are: what an exporter holds came from Marshal.
func (e *Event) append(b []byte) ([]byte, error) {
	for _, s := range []string{string(e.Type), e.Cluster, e.Digest, e.Name} {
		if !isPlainText(s) || len(e.Labels) > 0 {
			line, err := json.Marshal(e)
			return append(append(b, line...), '\n'), err
		}
	}
	b = append(b, `{"type":"`...)
	b = append(append(b, e.Type...), '"')
	text := func(name, value string) {
		if value != "" {
			b = append(append(append(append(b, name...), '"'), value...), '"')
		}
	}
	number := func(name string, value uint64) {
		if value != 0 {
			b = strconv.AppendUint(append(b, name...), value, 10)
		}
	}
	value := func(name string, value json.RawMessage) {
		if len(value) > 0 {
			b = append(append(b, name...), value...)
		}
	}
	number(`,"format":`, uint64(e.Format))
	text(`,"cluster":`, e.Cluster)
	number(`,"epoch":`, e.Epoch)
	number(`,"version":`, e.Version)
	if e.Delta {
		b = append(b, `,"delta":true`...)
	}
	number(`,"since":`, e.Since)
	number(`,"services":`, uint64(e.Services))
	text(`,"digest":`, e.Digest)
	text(`,"name":`, e.Name)
	value(`,"service":`, e.Service)
	value(`,"gateways":`, e.Gateways)
	value(`,"bundle":`, e.Bundle)
	value(`,"conflicts":`, e.Conflicts)
	return append(b, "}\n"...), nil
}

// isPlainText: letters, digits and what stands in names, which JSON writes as they
// are.
func isPlainText(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '.' && c != '_' && c != '/' {
			return false
		}
	}
	return true
}
