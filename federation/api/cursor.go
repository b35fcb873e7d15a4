package api

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxCursor bounds a cursor: the longest key is a service, a port and an
// endpoint's ID.
const maxCursor = 4096

var errCursor = errors.New("is no cursor of this API")

// encodeCursor makes a cursor of the last key of a page. It is opaque: clients
// must not learn to make one.
func encodeCursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte("k" + key)) }

func decodeCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	// The decoder skips line ends: a cursor has one spelling only.
	if len(cursor) > maxCursor || strings.ContainsAny(cursor, "\r\n") {
		return "", errCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < 2 || raw[0] != 'k' || !utf8.Valid(raw) {
		return "", errCursor
	}
	return string(raw[1:]), nil
}
