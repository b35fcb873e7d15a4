package resource

import "encoding/json"

// Page is one page of a list, in the order of the items' keys.
type Page[T any] struct {
	Items []T `json:"items" nullable:"false"`
	// NextCursor asks for the next page; "" is the last one.
	NextCursor string `json:"next_cursor,omitempty" doc:"Ask for the next page with this cursor; absent on the last page."`
	// Revision is the state of the list when the page was read. A watch since the
	// revision of the first page misses nothing.
	Revision uint64 `json:"revision" doc:"State of the list; pass it as since= to watch from here."`
}

// EventType says what a line of a watch means.
type EventType string

// The lines of a watch.
const (
	// Put: Item is new or has changed. Delete: the item with Key has gone.
	Put    EventType = "put"
	Delete EventType = "delete"
	// Synced follows the items that were there when a watch without since began.
	Synced EventType = "synced"
	// Heartbeat shows that the stream lives, every few seconds.
	Heartbeat EventType = "heartbeat"
	// Gone ends a stream whose reader fell too far behind: list again.
	Gone EventType = "gone"
)

// WatchEvent is one line of a watch. A reader that comes back with since=Revision
// misses nothing and sees nothing twice.
type WatchEvent[T any] struct {
	Type     EventType `json:"type" enum:"put,delete,synced,heartbeat,gone"`
	Revision uint64    `json:"revision"`
	Key      string    `json:"key,omitempty"`
	Item     *T        `json:"item,omitempty"`
}

// ProblemPrefix comes before the code in a problem's type.
const ProblemPrefix = "urn:isthmus:problem:"

// Problem is the body of every error (RFC 9457).
type Problem struct {
	// Type is a URN with the code that programs branch on:
	// "urn:isthmus:problem:CODE".
	Type   string         `json:"type"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []ProblemField `json:"errors,omitempty"`
}

// ProblemField is one thing wrong with what was sent.
type ProblemField struct {
	// Location is the field ("body.services[0]", "query.limit"), Message the rule
	// that Value breaks.
	Location string          `json:"location,omitempty"`
	Message  string          `json:"message"`
	Value    json.RawMessage `json:"value,omitempty"`
}
