package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// intro is the table of what runs where and what to try.
func (d *demo) intro(took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Isthmus demo: three clusters, two trust domains, ready after %s. State and logs: %s\n\n", took, d.plan.Dir)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLUSTER\tPROCESS\tPID\tADDRESS")
	for _, dom := range d.plan.Domains {
		name := "ca-" + dom.TrustDomain
		fmt.Fprintf(t, "-\t%s\t%d\t%s\n", name, d.sup.PID(name), dom.Socket)
	}
	for _, c := range d.plan.Clusters {
		pid := func(name string) int { return d.sup.PID(c.Name + "/" + name) }
		fmt.Fprintf(t, "%s\tfederation\t%d\tapi http://%s\n", c.Name, pid("federation"), c.API)
		for _, g := range c.Gateways {
			fmt.Fprintf(t, "%s\t%s\t%d\thttp %s, link %s\n", c.Name, g.Name, pid(g.Name), g.HTTP, g.Public)
		}
		for _, s := range c.Services {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", c.Name, s.Name, pid(s.Name), s.Address)
		}
	}
	_ = t.Flush() // into a strings.Builder
	aws, gcp := d.plan.Clusters[0], d.plan.Clusters[1]
	fmt.Fprintf(&b, `
Round trips: aws-gcp %s, aws-onprem %s, gcp-onprem %s.
Try, in another terminal, and watch the calls below:
  curl -H 'Host: billing.default.mesh' http://%s/
  kill -9 %d    # billing in %s: its callers are answered from %s
  %s demo start %s/billing --dir %s
  kill -9 %d    # one of two gateways in %s
  kill -9 %d    # the federation service of %s: calls go on
  %s explain billing --api http://%s --token-file %s
Calls from %s (who answered, how often in this second, median time). Ctrl-C stops everything.
`,
		2*d.plan.OneWay(aws.Name, gcp.Name), 2*d.plan.OneWay(aws.Name, d.plan.Clusters[2].Name), 2*d.plan.OneWay(gcp.Name, d.plan.Clusters[2].Name),
		aws.Gateways[0].HTTP,
		d.sup.PID(aws.Name+"/billing"), aws.Name, gcp.Name,
		d.binary, aws.Name, d.plan.Dir,
		d.sup.PID(aws.Name+"/"+aws.Gateways[1].Name), aws.Name,
		d.sup.PID(aws.Name+"/federation"), aws.Name,
		d.binary, aws.API, d.plan.tokenFile(aws),
		aws.Name)
	return b.String()
}

// lines keeps the output of several goroutines apart, line by line.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) print(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, strings.TrimRight(s, "\n"))
}
