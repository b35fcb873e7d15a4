package federation

import (
	"fmt"
)

// NotReady names what keeps the federation from doing its whole work.
func (p *plane) NotReady() []string {
	var out []string
	switch notAfter := p.opts.Identity.NotAfter(); {
	case notAfter.IsZero():
		out = append(out, "identity: no svid")
	case !p.now().Before(notAfter):
		out = append(out, fmt.Sprintf("identity: the svid has expired at %s", notAfter.UTC().Format("2006-01-02T15:04:05Z")))
	}
	if p.tables.current() == nil {
		silent := p.silent()
		for _, name := range silent {
			out = append(out, fmt.Sprintf("source %s: nothing read yet, and nothing on disk", name))
		}
		if len(silent) == 0 {
			out = append(out, "table: not built yet")
		}
	}
	out = append(out, p.untrusted()...)
	if err := p.store.Writable(); err != nil {
		out = append(out, "store: "+err.Error())
	}
	if err := p.audit.Writable(); err != nil {
		out = append(out, "audit: "+err.Error())
	}
	return out
}
