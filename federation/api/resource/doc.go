// Package resource holds the JSON shapes of the REST API: what
// federation/api writes and federation/client reads. They are the API's own, so
// that what is inside a federation can change without breaking a caller.
//
// Field names are snake_case, times RFC 3339, durations nanoseconds (names end
// in _ns), and names are those of package catalog. Fields are added, never
// changed in meaning and never removed within /v1.
package resource
