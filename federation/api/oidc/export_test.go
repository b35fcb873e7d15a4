package oidc

import "encoding/json"

// DecodeStrict reads one object strictly.
func DecodeStrict(data []byte) (map[string]json.RawMessage, error) {
	var set map[string]json.RawMessage
	err := decodeStrict(data, &set)
	return set, err
}
