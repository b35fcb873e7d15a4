package wire

// Priority says which calls are refused last where not all fit. It is ordered: the
// zero value is that of a call of which nothing is said.
type Priority uint8

// The priorities.
const (
	PriorityDefault  Priority = 0
	PriorityCritical Priority = 1
	PriorityLow      Priority = 2
)

var priorityNames = [...]string{PriorityDefault: "default", PriorityCritical: "critical", PriorityLow: "low"}

// Valid reports whether p is of the closed set.
func (p Priority) Valid() bool { return int(p) < len(priorityNames) }

// String returns the word that logs and HTTP header fields use.
func (p Priority) String() string {
	if !p.Valid() {
		return "unknown"
	}
	return priorityNames[p]
}

// ParsePriority is the inverse of String for the closed set.
func ParsePriority(s string) (Priority, bool) {
	for i, name := range priorityNames {
		if name == s {
			return Priority(i), true
		}
	}
	return 0, false
}
