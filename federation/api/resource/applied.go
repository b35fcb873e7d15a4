package resource

import "encoding/json"

// AppliedSetHeader marks a write as one of a set of declarative files (a DNS
// label): what it writes is the base of the set's next comparison.
const AppliedSetHeader = "Isthmus-Applied-Set"

// AppliedSet is what one set of declarative files applied last.
type AppliedSet struct {
	Set   string        `json:"set"`
	Rules []AppliedRule `json:"rules" nullable:"false" doc:"Sorted by kind and name."`
}

// AppliedRule is one rule as a set applied it.
type AppliedRule struct {
	Kind string `json:"kind" doc:"The collection, as in its path."`
	Name string `json:"name"`
	// Rule is the whole rule; it need not be what holds now.
	Rule json.RawMessage `json:"rule" doc:"The rule as it was applied; somebody may have changed it since."`
}
