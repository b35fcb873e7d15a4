package decisions

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Allowed says which of the allowed calls are logged.
type Allowed string

// The settings.
const (
	// Off logs none; Sample one line a minute for each caller, service and rule; All
	// each call.
	Off    Allowed = "off"
	Sample Allowed = "sample"
	All    Allowed = "all"
)

// Valid reports whether a is one of the settings.
func (a Allowed) Valid() bool { return a == Off || a == Sample || a == All }

const (
	// deniedEvery is the least time between two lines about the same denial: often
	// enough to follow an attack, rarely enough to survive it.
	deniedEvery = time.Second
	// sampledEvery is the same for allowed calls.
	sampledEvery = time.Minute
	// maxSubjects bounds what repetitions are recognised of; beyond it the one that
	// was not seen for longest is forgotten, and logged anew when it comes again.
	maxSubjects = 4096
	// burst and perSecond bound the lines altogether: callers choose their names.
	burst     = 200
	perSecond = 50
	// maxPath bounds a path in a line.
	maxPath = 256
)

// Options configure a Log.
type Options struct {
	// Allowed says which allowed calls are logged; "" means Off.
	Allowed Allowed
	// Log receives the lines; required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Log is a decision log. It is safe for concurrent use.
type Log struct {
	o Options

	mu       sync.Mutex
	subjects map[subject]*list.Element
	order    *list.List // least recent first
	tokens   float64
	filled   time.Time
	silent   uint64 // decisions that no line stands for yet
}

// subject is what makes a decision a repetition of another.
type subject struct {
	caller, reason, rule string
	peer                 catalog.ClusterName
	service              catalog.ServiceName
	allowed              bool
}

type repeated struct {
	subject subject
	logged  time.Time
	count   uint64 // since then
}

// New returns a Log.
func New(o Options) (*Log, error) {
	if o.Log == nil {
		return nil, errors.New("decisions: log is required")
	}
	if o.Allowed == "" {
		o.Allowed = Off
	}
	if !o.Allowed.Valid() {
		return nil, errors.New("decisions: allowed must be off, sample or all")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Log{o: o, subjects: make(map[subject]*list.Element), order: list.New(), tokens: burst, filled: o.Now()}, nil
}

// Note takes a decision.
func (l *Log) Note(j *attempt.Judgement) {
	v := j.Verdict
	if v.Allowed && l.o.Allowed == Off {
		return
	}
	count, log := l.due(subject{j.Caller, v.Reason, v.Rule, j.Peer, j.Service, v.Allowed})
	if log {
		l.write(j, count)
	}
}

// due counts a decision and says whether it is time for a line, and for how many
// decisions it stands.
func (l *Log) due(s subject) (count uint64, log bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	r := l.of(s)
	r.count++
	every := deniedEvery
	if s.allowed {
		every = sampledEvery
	}
	if !r.logged.IsZero() && now.Sub(r.logged) < every && (!s.allowed || l.o.Allowed != All) {
		return 0, false
	}
	l.tokens = min(burst, l.tokens+now.Sub(l.filled).Seconds()*perSecond)
	l.filled = now
	if l.tokens < 1 {
		return 0, false // the count goes into a later line
	}
	l.tokens--
	count = r.count + l.silent
	r.logged, r.count, l.silent = now, 0, 0
	return count, true
}

// of is the entry of a subject.
func (l *Log) of(s subject) *repeated {
	if e := l.subjects[s]; e != nil {
		l.order.MoveToBack(e)
		return e.Value.(*repeated)
	}
	if l.order.Len() >= maxSubjects {
		e := l.order.Front()
		r := l.order.Remove(e).(*repeated)
		delete(l.subjects, r.subject)
		l.silent += r.count
	}
	r := &repeated{subject: s}
	l.subjects[s] = l.order.PushBack(r)
	return r
}

func (l *Log) write(j *attempt.Judgement, count uint64) {
	args := make([]any, 0, 26)
	add := func(key, value string) {
		if value != "" {
			args = append(args, key, value)
		}
	}
	add("caller", j.Caller)
	if j.Caller != "" {
		assurance := j.Assurance
		if assurance == wire.AssuranceNone {
			assurance = wire.AssuranceListener
		}
		add("assurance", assurance.String())
	}
	add("peer", string(j.Peer))
	add("service", j.Service.String())
	add("port", j.Port)
	if j.HTTP != nil {
		add("method", short(j.HTTP.Method))
		add("path", short(j.HTTP.Path))
	}
	add("reason", j.Verdict.Reason)
	add("rule", j.Verdict.Rule)
	args = append(args, "epoch", j.Epoch, "version", j.Version, "count", count)
	if j.Verdict.Allowed {
		l.o.Log.Log(context.Background(), slog.LevelInfo, "call allowed", args...)
		return
	}
	l.o.Log.Log(context.Background(), slog.LevelWarn, "call denied", args...)
}

func short(s string) string {
	if len(s) > maxPath {
		return s[:maxPath] + "..."
	}
	return s
}
