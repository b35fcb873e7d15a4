package exchange

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Feed is the exporter's pure side, for property tests without a network.
type Feed struct{ f *feed }

// NewFeed starts one, as a process that remembers nothing above epoch.
func NewFeed(cluster catalog.ClusterName, epoch uint64) *Feed { return &Feed{newFeed(cluster, epoch)} }

// Set replaces the state.
func (t *Feed) Set(s State) (bool, error) { return t.f.set(s, DefaultLimits()) }

// At is the feed's position.
func (t *Feed) At() Position { return t.f.at }

// Since answers a listener as a stream does, line by line.
func (t *Feed) Since(have Position, full bool) (lines []string) {
	if !t.f.knows(have) {
		t.f.raise(have.Epoch)
	}
	return t.f.since(have, full).lines()
}

// Delta answers a peer's listener as a stream does.
func (e *Exporter) Delta(peer catalog.ClusterName, have Position, full bool) []string {
	f := e.told[peer].feed
	want := (&Feed{f}).Since(have, full)
	o := e.since(f, have, full)
	if got := o.lines(); !slices.Equal(got, want) {
		panic(fmt.Sprintf("several are sent %q, one %q", got, want))
	}
	if text := strings.Join(want, "\n") + "\n"; o.whole != nil && string(o.whole) != text {
		panic(fmt.Sprintf("several are sent %q, one %q", o.whole, text))
	}
	return want
}

// OneBatch reports whether both peers, who hold what is given, are sent the same
// piece of bytes.
func (e *Exporter) OneBatch(a, b catalog.ClusterName, have Position) bool {
	o := e.since(e.told[a].feed, have, false)
	return o.whole != nil && o == e.since(e.told[b].feed, have, false)
}

// Lists counts the lists that peers are told.
func (e *Exporter) Lists() int {
	lists := map[*list]bool{}
	for _, t := range e.told {
		lists[t.feed.list] = true
	}
	return len(lists)
}

// lines are those of the batch; what is written once is what would be written.
func (o *outgoing) lines() (lines []string) {
	for e := range o.head {
		lines = append(lines, mustLine(e))
	}
	for _, e := range o.entries {
		line := strings.TrimSuffix(string(e.line), "\n")
		if want := mustLine(&Event{Type: Service, Service: e.value}); line != want {
			panic(line + " is not " + want)
		}
		lines = append(lines, line)
	}
	if body := ""; o.body != nil {
		for _, e := range o.entries {
			body += string(e.line)
		}
		if body != string(o.body) {
			panic("what is written in one piece is not what is written line by line")
		}
	}
	return append(lines, mustLine(&o.sync))
}

// Heartbeat is one line.
func (t *Feed) Heartbeat() string { return mustLine(t.f.heartbeat()) }

func mustLine(e *Event) string {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	if line, err := e.append(nil); err != nil || string(line) != string(b)+"\n" {
		panic(fmt.Sprintf("%s is not %s: %v", line, b, err))
	}
	return string(b)
}

// Silence is how long a stream may say nothing.
const Silence = silence

// MaxTombs bounds the removals that a feed remembers.
const MaxTombs = maxTombs

// PlainNames and CheckNames are the quick and the slow look at the names of a line.
func PlainNames(line []byte) bool  { return plainNames(line) }
func CheckNames(line []byte) error { return checkNames(line) }

// ParsePlain is the quick way of ParseEvent, ParseSlowly the other.
func ParsePlain(line []byte) *Event { return parsePlain(line) }

// ParseSlowly reads any line.
func ParseSlowly(line []byte) (*Event, error) {
	e := new(Event)
	if err := cmp.Or(checkNames(line), json.Unmarshal(line, e)); err != nil {
		return nil, err
	}
	return e, nil
}

// QuickEnough and SweepStall are the bounds of sweeps.
const (
	QuickEnough = quickEnough
	SweepStall  = sweepStall
)

// Quick counts the streams that are swept.
func (e *Exporter) Quick() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.told {
		for _, s := range t.streams {
			if s.isQuick() {
				n++
			}
		}
	}
	return n
}

// The quick ways of summaries.
var (
	ParsePlainSummary = parsePlainSummary
	EncodeSummary     = encodeSummary
)

// ForgetSummary leaves an event as the slow way reads it.
func ForgetSummary(e *Event) { e.summary = nil }
