package gateway

import (
	"fmt"
	"strconv"
	"time"
)

// The defaults of Explain, and the bounds of its Records.
const (
	// DefaultExplainShare keeps one ordinary call in a hundred.
	DefaultExplainShare   = 0.01
	DefaultExplainSlow    = time.Second
	DefaultExplainRecords = 1024
	// maxExplainRecords of each kind take about 100 MiB.
	maxExplainRecords = 20_000
)

// Explain says which calls are kept, in memory, to be explained afterwards. Calls that
// failed or were tried again always are, as are those whose caller traces them.
type Explain struct {
	// Share of the other calls is kept, 0 to 1; default 0.01.
	Share *float64 `yaml:"share,omitempty"`
	// Slow keeps calls whose first word of an answer took longer; default 1s.
	Slow time.Duration `yaml:"slow,omitempty"`
	// Records is how many are kept of each kind (failed, retried or slow; traced; of
	// the share); default 1024. A twentieth of it at most is kept in one second.
	Records int `yaml:"records,omitempty"`
}

func (e Explain) withDefaults() Explain {
	if e.Share == nil {
		e.Share = new(DefaultExplainShare)
	}
	if e.Slow == 0 {
		e.Slow = DefaultExplainSlow
	}
	if e.Records == 0 {
		e.Records = DefaultExplainRecords
	}
	return e
}

func (e Explain) validate(p *problems) {
	if s := *e.Share; !(s >= 0 && s <= 1) {
		p.add("explain.share", strconv.FormatFloat(s, 'g', -1, 64), "must be from 0 to 1")
	}
	if e.Slow < 0 {
		p.add("explain.slow", e.Slow.String(), "must not be negative")
	}
	if e.Records < 1 || e.Records > maxExplainRecords {
		p.add("explain.records", strconv.Itoa(e.Records), fmt.Sprintf("must be from 1 to %d", maxExplainRecords))
	}
}
