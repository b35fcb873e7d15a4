package policy

import (
	"bytes"
	"encoding/json"
)

// Intentions is a list of intentions that is safe to read by a version that does
// not know all of their fields: what it does not know can only narrow a rule. An
// allow with such a field would let more in than was meant and is dropped; a deny
// is applied without its conditions and refuses more.
type Intentions []Intention

// UnmarshalJSON implements json.Unmarshaler.
func (l *Intentions) UnmarshalJSON(data []byte) error {
	// Most lists are understood whole.
	var known []Intention
	if decodeStrictly(data, &known) == nil {
		*l = known
		return nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	out := make([]Intention, 0, len(raw))
	for _, item := range raw {
		in, ok, err := ReadIntention(item)
		if err != nil {
			return err
		}
		if ok {
			out = append(out, in)
		}
	}
	*l = out
	return nil
}

// ReadIntention reads one intention in JSON, as Intentions does; ok is false for one
// that must not be applied. The error is for what is no intention at all.
func ReadIntention(data []byte) (in Intention, ok bool, err error) {
	if decodeStrictly(data, &in) == nil {
		return in, true, nil
	}
	var loose struct {
		Name     string           `json:"name"`
		Services []ServicePattern `json:"services"`
		Callers  []IDPattern      `json:"callers"`
		Action   Action           `json:"action"`
	}
	if err := json.Unmarshal(data, &loose); err != nil {
		return Intention{}, false, err
	}
	return Intention{Name: loose.Name, Services: loose.Services, Callers: loose.Callers, Action: loose.Action}, loose.Action != Allow, nil
}

func decodeStrictly(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}
