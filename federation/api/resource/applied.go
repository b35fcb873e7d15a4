package resource

import "encoding/json"

// AppliedSet is what one set of declarative files applied last.
type AppliedSet struct {
	Set   string        `json:"set"`
	Rules []AppliedRule `json:"rules" nullable:"false" doc:"Sorted by kind and name."`
}

// AppliedRule is one rule as the files of a set had it when they were applied.
type AppliedRule struct {
	Kind string `json:"kind" doc:"The collection, as in its path."`
	Name string `json:"name"`
	// Rule is the whole rule; it need not be what holds now.
	Rule json.RawMessage `json:"rule" doc:"The rule as it was applied; somebody may have changed it since."`
}
