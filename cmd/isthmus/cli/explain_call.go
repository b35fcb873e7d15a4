package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// realCalls are the flags that ask for calls that were made.
type realCalls struct {
	trace, request, admin string
	record, replay        string
	recent                bool
	limit                 int
}

func (k *realCalls) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.trace, "trace", "", "explain the real call with this trace ID (32 hexadecimal digits, or a whole traceparent)")
	f.StringVar(&k.request, "request", "", "explain the real call with this request ID (X-Request-Id)")
	f.BoolVar(&k.recent, "recent", false, "list the calls that are kept, of SERVICE or of all")
	f.IntVar(&k.limit, "limit", 20, "with --recent: how many, 1 to 100")
	f.StringVar(&k.admin, "admin", "", "with --trace, --request or --recent: ask the gateway with this admin address (such as 127.0.0.1:7481) instead of the federation")
	f.StringVar(&k.record, "record", "", "with --trace, --request or --recent: also write the calls to this file, with all that their decisions had read")
	f.StringVar(&k.replay, "replay", "", "repeat the decisions of a file that --record wrote; nobody is asked")
}

func (k *realCalls) asked() bool { return k.trace != "" || k.request != "" || k.recent }

// args are those of the explain command: a service, but where a real call is asked for.
func (k *realCalls) args(c *cobra.Command, args []string) error {
	switch {
	case k.replay != "":
		return replayArgs(k, args)
	case k.trace != "" && k.request != "":
		return usageError{errors.New("--trace and --request: one of them names a call")}
	case k.recent && (k.trace != "" || k.request != ""):
		return usageError{errors.New("--recent lists calls, --trace and --request name one")}
	case k.recent && len(args) <= 1:
		return nil
	case k.asked():
		return exactArgs()(c, args)
	case k.admin != "":
		return usageError{errors.New("--admin is for real calls: give --trace, --request or --recent")}
	case k.record != "":
		return usageError{errors.New("--record is for real calls: give --trace, --request or --recent")}
	default:
		return exactArgs("SERVICE")(c, args)
	}
}

func (k *realCalls) ask(ctx context.Context, api *client.Client, args []string, gateway string) (*answer, error) {
	q := resource.CallQuery{TraceID: k.trace, RequestID: k.request, Gateway: gateway, Saved: k.record != ""}
	if parts := strings.Split(q.TraceID, "-"); len(parts) == 4 {
		q.TraceID = parts[1]
	}
	if k.recent {
		q.Limit = k.limit
	}
	if len(args) == 1 {
		var err error
		if q.Service, err = catalog.ParseServiceName(args[0]); err != nil {
			return nil, usageError{err}
		}
	}
	var calls *resource.Calls
	var err error
	if k.admin != "" {
		calls, err = askAdmin(ctx, k.admin, q)
	} else {
		calls, err = api.Calls(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	if len(calls.Trails) > 0 {
		if err := k.write(calls); err != nil {
			return nil, err
		}
	}
	if k.recent {
		return &answer{Value: calls, Rows: recentRows(calls), Text: unasked(calls)}, nil
	}
	if len(calls.Trails) == 0 {
		return nil, errors.New(strings.TrimSpace("no gateway here has kept such a call. Kept are calls that failed, were tried again or slow, " +
			"those whose traceparent has the sampled flag, and a share of the rest; the oldest give way\n" + unasked(calls)))
	}
	return &answer{Value: calls, Text: trailsText(calls.Trails, faultOfGateway) + unasked(calls)}, nil
}

// maxAdminAnswer bounds what a gateway answers.
const maxAdminAnswer = 64 << 20

// adminTimeout bounds the question.
const adminTimeout = 10 * time.Second

// askAdmin asks a gateway by its admin listener.
func askAdmin(ctx context.Context, address string, q resource.CallQuery) (*resource.Calls, error) {
	query := url.Values{}
	for name, value := range map[string]string{"trace": q.TraceID, "request": q.RequestID} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Service.IsZero() {
		query.Set("service", q.Service.String())
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Saved {
		query.Set("saved", "true")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/calls?"+query.Encode(), nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin %q: %w", address, err)}
	}
	asking := &http.Client{Timeout: adminTimeout}
	resp, err := asking.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the gateway at %s answers %d: %s", address, resp.StatusCode, strings.TrimSpace(string(body)))
	}
	calls := new(resource.Calls)
	if err := json.Unmarshal(body, calls); err != nil {
		return nil, fmt.Errorf("the answer of %s is not understood: %w", address, err)
	}
	if len(calls.Trails) > 0 {
		calls.Cluster = calls.Trails[0].Cluster
	}
	return calls, nil
}

func recentRows(calls *resource.Calls) [][]string {
	rows := [][]string{{"STARTED", "SERVICE", "WENT TO", "REASON", "STATUS", "TOOK", "ATTEMPTS", "KEPT", "GATEWAY", "TRACE", "REQUEST"}}
	for i := range calls.Trails {
		t := &calls.Trails[i]
		went, status := "", ""
		if n := len(t.Attempts); n > 0 {
			went = place(string(t.Attempts[n-1].Cluster), "", t.Attempts[n-1].Endpoint)
		}
		if t.Status != 0 {
			status = strconv.Itoa(t.Status)
		}
		rows = append(rows, []string{
			t.Started.Local().Format("15:04:05.000"), dash(t.Service.String()), dash(went), t.Reason, dash(status), ms(t.Duration),
			strconv.Itoa(len(t.Attempts)), string(t.Kept), t.Gateway, dash(t.TraceID), dash(t.RequestID),
		})
	}
	return rows
}

func unasked(calls *resource.Calls) string {
	var b strings.Builder
	for _, u := range calls.Unasked {
		fmt.Fprintf(&b, "gateway %s could not be asked: %s\n", u.Gateway, u.Reason)
	}
	return b.String()
}

// faultOfGateway is said of a decision whose repetition in the gateway itself differs.
const faultOfGateway = "The repeated decision differs from the real one: this is a fault of the gateway, please report it."

// trailsText are real calls in lines; otherwise is said of decisions that were not
// repeated exactly.
func trailsText(trails []route.Trail, otherwise string) string {
	var b strings.Builder
	for i := range trails {
		if i > 0 {
			b.WriteString("\n")
		}
		trailText(&b, &trails[i], otherwise)
	}
	return b.String()
}

func trailText(b *strings.Builder, t *route.Trail, otherwise string) {
	fmt.Fprintf(b, "%s to %s at %s, %s: %s", callKind(t), t.Service, t.Started.Local().Format("2006-01-02 15:04:05.000"), ms(t.Duration), t.Reason)
	if t.Status != 0 {
		fmt.Fprintf(b, " (HTTP %d)", t.Status)
	}
	fmt.Fprintf(b, "\n  gateway %s of %s, caller %s, kept because it %s\n", t.Gateway, t.Cluster, dash(t.Caller), whyKept(t.Kept))
	fmt.Fprintf(b, "  trace %s, request %s, %d bytes sent, %d received\n", dash(t.TraceID), dash(t.RequestID), t.Sent, t.Received)
	if t.Rule != "" {
		fmt.Fprintf(b, "  refused by intention %s\n", t.Rule)
	}
	if len(t.Attempts) == 0 {
		b.WriteString("  it was refused before a choice was made\n")
	}
	for i := range t.Attempts {
		a := &t.Attempts[i]
		fmt.Fprintf(b, "\nattempt %d", i+1)
		if a.Cluster != "" {
			fmt.Fprintf(b, " went to %s", place(string(a.Cluster), "", a.Endpoint))
		}
		if a.Gateway != "" {
			fmt.Fprintf(b, " by its gateway %s", a.Gateway)
		}
		fmt.Fprintf(b, ": %s after %s", a.Outcome, ms(a.Took))
		if a.Predicted > 0 {
			fmt.Fprintf(b, ", predicted %s", ms(a.Predicted))
		}
		if a.Error != "" {
			fmt.Fprintf(b, " (%s)", a.Error)
		}
		b.WriteString("\n")
		if !a.Exact {
			fmt.Fprintf(b, "  %s\n", otherwise)
		}
		if a.Ledger != nil {
			source := fmt.Sprintf("decided at %s by table %d.%d and the evidence of %s", a.Ledger.Request.At.Local().Format("15:04:05.000"),
				a.Ledger.Plan.Epoch, a.Ledger.Plan.Version, a.Ledger.Plan.EvidenceAt.Local().Format("15:04:05.000"))
			b.WriteString(indent(ledgerText(a.Ledger, source)))
		}
	}
	if t.Peer == "" && len(t.Attempts) > 0 {
		if last := t.Attempts[len(t.Attempts)-1]; last.Cluster != "" && last.Cluster != t.Cluster {
			fmt.Fprintf(b, "\nWhich of its endpoints %s chose is kept there: ask its federation for the same ID.\n", last.Cluster)
		}
	}
}

func callKind(t *route.Trail) string {
	if t.Peer != "" {
		return fmt.Sprintf("call of %s (gateway %s)", t.Peer, dash(t.PeerGateway))
	}
	return "call"
}

func whyKept(k route.TrailKept) string {
	switch k {
	case route.KeptFailed:
		return "failed"
	case route.KeptRetried:
		return "was tried again"
	case route.KeptSlow:
		return "was slow"
	case route.KeptTraced:
		return "is traced"
	case route.KeptSampled:
		return "is of the share that is kept"
	}
	return "was kept: " + string(k)
}

// indent moves lines to the right.
func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}
