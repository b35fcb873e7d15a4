package cli

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// impactText says in lines, each below what it follows from, what a write would
// change for whom.
func impactText(i resource.Impact) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	for _, p := range i.Peers {
		line("peer %s %s%s", p.Peer, p.Change, inBrackets(p.Fields))
		for _, o := range p.Offered {
			line("  %s: %s", o.Service, offered(o.Change))
		}
		if more := p.OfferedTotal - len(p.Offered); more > 0 {
			line("  and %d more services", more)
		}
	}
	for _, s := range i.Services {
		what := append([]string{}, s.Fields...)
		for _, c := range s.Clusters {
			what = append(what, "offers of "+string(c))
		}
		line("service %s %s%s", s.Service, s.Change, inBrackets(what))
	}
	for _, c := range i.Callers {
		line("caller %s of %s%s: %s, was %s (%d calls seen)", c.Caller, c.Service, request(c), c.After, c.Before, c.Calls)
	}
	for _, more := range []struct {
		what         string
		total, shown int
	}{{"peers", i.PeersTotal, len(i.Peers)}, {"services", i.ServicesTotal, len(i.Services)}, {"callers", i.CallersTotal, len(i.Callers)}} {
		if n := more.total - more.shown; n > 0 {
			line("and %d more %s", n, more.what)
		}
	}
	for _, u := range i.Unknown {
		line("not known: %s", u)
	}
	if b.Len() == 0 {
		line("nothing changes for anybody")
	}
	return b.String()
}

func inBrackets(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

func offered(c resource.ImpactChange) string {
	switch c {
	case resource.ImpactAdded:
		return "offered from then on"
	case resource.ImpactRemoved:
		return "no longer offered"
	default:
		return "offered otherwise"
	}
}

func request(c resource.CallerImpact) string {
	if c.Method == "" {
		return ""
	}
	return " by " + c.Method + " " + c.Path
}
