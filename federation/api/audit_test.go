package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/audit"
)

func (s *stand) audited(t *testing.T, query string) []resource.AuditEntry {
	t.Helper()
	got := s.ask(t, "GET", "/v1/audit"+query, "")
	var page resource.AuditPage
	if err := json.Unmarshal([]byte(got.body), &page); err != nil || got.status != 200 {
		t.Fatalf("GET /v1/audit%s = %d %s", query, got.status, got.body)
	}
	return page.Items
}

// Every change has an attempt and an outcome that say who, what, why and what
// came of it.
func TestChangesAreAudited(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	made := s.ask(t, "POST", "/v1/exports", exportJSON, "Isthmus-Reason: shop goes west")
	put := s.ask(t, "PUT", "/v1/exports/shop?reason=and+north", strings.Replace(exportJSON, "west", "north", 1), "If-Match: "+made.header.Get("ETag"))
	conflict := s.ask(t, "PUT", "/v1/exports/shop", exportJSON, "If-Match: "+made.header.Get("ETag"))
	gone := s.ask(t, "DELETE", "/v1/exports/shop", "")
	if made.status != 201 || put.status != 200 || conflict.status != 412 || gone.status != 204 {
		t.Fatal(made, put, conflict, gone)
	}
	// Neither reads nor dry runs change anything.
	s.ask(t, "GET", "/v1/exports", "")
	s.ask(t, "POST", "/v1/exports?dry_run=true", exportJSON)
	got := s.audited(t, "")
	if len(got) != 8 {
		t.Fatalf("%d entries, want an attempt and an outcome of 4 changes: %+v", len(got), got)
	}
	for i, want := range []struct {
		operation, reason, before, after string
		answer                           reply
	}{
		{"delete-export", "", put.header.Get("ETag"), "", gone},
		{"replace-export", "", put.header.Get("ETag"), "", conflict},
		{"replace-export", "and north", made.header.Get("ETag"), put.header.Get("ETag"), put},
		{"create-export", "shop goes west", "", made.header.Get("ETag"), made},
	} {
		outcome, attempt := got[2*i], got[2*i+1]
		if outcome.Phase != audit.Outcome || attempt.Phase != audit.Attempt || outcome.RequestID != attempt.RequestID ||
			outcome.RequestID != want.answer.header.Get("Isthmus-Request-Id") || outcome.Status != want.answer.status ||
			outcome.Operation != want.operation || outcome.Reason != want.reason || outcome.Before != want.before || outcome.After != want.after ||
			outcome.Principal != "token" || outcome.Role != "admin" || outcome.Way != "loopback" || !strings.HasPrefix(outcome.From, "127.0.0.1:") ||
			len(outcome.Body) != 64 || !strings.HasPrefix(outcome.Resource, "/v1/exports") {
			t.Errorf("entry %d of %s:\nattempt %+v\noutcome %+v\nwant %+v", i, want.operation, attempt, outcome, want)
		}
	}
	var report resource.AuditReport
	if err := json.Unmarshal([]byte(s.ask(t, "GET", "/v1/audit/verify", "").body), &report); err != nil || !report.Intact || report.Last != 8 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := s.socketed.Exports().Delete(t.Context(), "none", "", false); err == nil {
		t.Error("deleted nothing")
	}
	if e := s.audited(t, "?limit=1")[0]; e.Principal != fmt.Sprintf("local:%d", os.Getuid()) || e.Way != "socket" || e.Status != 404 {
		t.Errorf("over the socket: %+v", e)
	}
}

// What is a dry run to the audit log is one to the handler, however the query is
// written.
func TestNoQueryHidesAChangeFromTheAudit(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, query := range []string{
		"dry_run=%zz&dry_run=true", "dry_run=1;&dry_run=true", "dry_run=false&dry_run=true", "dry_run=&dry_run=true",
		"dry%5Frun=%zz&dry_run=true", "dry_run&dry_run=true", "%zz&dry_run=true", "dry_run&window=5", "dry_run=%zz;true",
	} {
		before := len(s.audited(t, "?operation=delete-export"))
		if made := s.ask(t, "POST", "/v1/exports", exportJSON); made.status != 201 {
			t.Fatal(made)
		}
		got := s.ask(t, "DELETE", "/v1/exports/shop?"+query, "")
		kept := s.ask(t, "GET", "/v1/exports/shop", "").status == 200
		if audited := len(s.audited(t, "?operation=delete-export")) > before; !kept && !audited {
			t.Errorf("?%s = %d: the export is gone, and nothing of it audited", query, got.status)
		}
		if kept {
			s.ask(t, "DELETE", "/v1/exports/shop", "")
		}
	}
	if got := s.ask(t, "POST", "/v1/sources/file/release?dry_run=true", ""); got.status != 422 {
		t.Errorf("an operation without dry runs = %d %s", got.status, got.body)
	}
}

func TestAuditPagesAndFilters(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for i := range 5 {
		s.ask(t, "DELETE", fmt.Sprintf("/v1/exports/none-%d", i), "")
		s.ask(t, "DELETE", fmt.Sprintf("/v1/imports/none-%d", i), "")
	}
	if n := len(s.audited(t, "?operation=delete-import&phase=outcome")); n != 5 {
		t.Errorf("%d outcomes of delete-import, want 5", n)
	}
	if n := len(s.audited(t, "?resource=/v1/exports/none-3")); n != 2 {
		t.Errorf("%d entries of one resource, want 2", n)
	}
	if n := len(s.audited(t, "?principal=nobody")); n != 0 {
		t.Errorf("%d entries of nobody", n)
	}
	seen, cursor := 0, ""
	for pages := 0; ; pages++ {
		got := s.ask(t, "GET", "/v1/audit?limit=3&cursor="+cursor, "")
		var page resource.AuditPage
		if err := json.Unmarshal([]byte(got.body), &page); err != nil || got.status != 200 || pages > 10 {
			t.Fatal(got)
		}
		seen += len(page.Items)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if seen != 20 {
		t.Errorf("%d entries on all pages, want 20", seen)
	}
	for _, bad := range []string{"xyz", "YTE6MQ0", "a1:1"} {
		if got := s.ask(t, "GET", "/v1/audit?cursor="+bad, ""); got.status != 422 {
			t.Errorf("cursor %s = %d", bad, got.status)
		}
	}
	if got := s.ask(t, "GET", "/v1/audit?cursor=YTk5OTo1", ""); got.status != 410 { // a999:5
		t.Errorf("a file that is gone = %d %s", got.status, got.body)
	}
}

// fullDisk is an audit log on a disk that fills up.
type fullDisk struct {
	*audit.Log
	full atomic.Bool
}

func (d *fullDisk) Append(e audit.Entry) (audit.Entry, error) {
	if d.full.Load() {
		return e, fmt.Errorf("%w: %w", audit.ErrNotWritable, errors.New("no space left on device"))
	}
	return d.Log.Append(e)
}

// What cannot be audited is not done, and says so; everything else goes on.
func TestChangeThatCannotBeAuditedIsRefused(t *testing.T) {
	t.Parallel()
	disk := &fullDisk{}
	s := newStand(t, func(o *api.Options) { disk.Log, o.Audit = o.Audit.(*audit.Log), disk })
	disk.full.Store(true)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/exports", exportJSON},
		{"DELETE", "/v1/exports/shop", ""},
		{"POST", "/v1/sources/consul/release", ""},
	} {
		got := s.ask(t, c.method, c.path, c.body)
		if p := got.problem(t); got.status != 503 || !strings.HasSuffix(p.Type, string(api.CodeAuditUnavailable)) ||
			!strings.Contains(p.Detail, "no space left") || got.header.Get("Retry-After") == "" {
			t.Errorf("%s %s = %d %s", c.method, c.path, got.status, got.body)
		}
	}
	if got := s.ask(t, "GET", "/v1/exports/shop", ""); got.status != 404 {
		t.Errorf("a refused change was made: %s", got.body)
	}
	if got := s.ask(t, "POST", "/v1/exports?dry_run=true", exportJSON); got.status != 200 {
		t.Errorf("a dry run = %d", got.status)
	}
	disk.full.Store(false)
	if got := s.ask(t, "POST", "/v1/exports", exportJSON); got.status != 201 {
		t.Errorf("there is room again: %d %s", got.status, got.body)
	}
}

// Who tries what he may not leaves a trace.
func TestRefusalsAreAudited(t *testing.T) {
	t.Parallel()
	s := newStand(t, withRoles(&issuer{}))
	if got := s.ask(t, "DELETE", "/v1/exports/shop", "", "Authorization: Bearer eve:everybody"); got.status != http.StatusForbidden {
		t.Fatal(got)
	}
	if got := s.ask(t, "GET", "/v1/audit", "", "Authorization: Bearer bob:ops"); got.status != http.StatusForbidden {
		t.Errorf("an operator reads the audit log: %d", got.status)
	}
	entries, _, err := s.audit.Page(t.Context(), audit.Position{}, 10, nil)
	if err != nil || len(entries) != 1 || entries[0].Phase != audit.Refused || entries[0].Principal != "https://id.test#eve" || entries[0].Status != 403 {
		t.Errorf("%+v, %v", entries, err)
	}
}

// A stolen viewer's token cannot push what others did out of the log.
func TestRefusalsDoNotFillTheAudit(t *testing.T) {
	t.Parallel()
	s := newStand(t, withRoles(&issuer{}))
	const tries = 150
	for range tries {
		if got := s.ask(t, "DELETE", "/v1/exports/shop", "", "Authorization: Bearer eve:everybody"); got.status != http.StatusForbidden {
			t.Fatal(got)
		}
	}
	s.ask(t, "DELETE", "/v1/exports/shop", "", "Authorization: Bearer mallory:everybody")
	of := map[string]int{}
	entries, _, err := s.audit.Page(t.Context(), audit.Position{}, 1000, nil)
	for _, e := range entries {
		of[e.Principal]++
	}
	// A tenth of one more each second that the loop took.
	if n := of["https://id.test#eve"]; err != nil || n < 100 || n >= tries || of["https://id.test#mallory"] != 1 {
		t.Errorf("audited refusals: %v, %v", of, err)
	}
}

func TestReasonsAreOneBoundedLine(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for name, c := range map[string]struct {
		path, header string
		status       int
	}{
		"header":          {"/v1/exports/none", "Isthmus-Reason: because", 404},
		"query":           {"/v1/exports/none?reason=because%20of", "", 404},
		"too long":        {"/v1/exports/none?reason=" + strings.Repeat("x", 513), "", 422},
		"longest":         {"/v1/exports/none?reason=" + strings.Repeat("x", 512), "", 404},
		"two lines":       {"/v1/exports/none?reason=a%0Ab", "", 422},
		"not UTF-8":       {"/v1/exports/none?reason=%ff", "", 422},
		"malformed query": {"/v1/exports/none?reason=%zz", "", 422},
	} {
		if got := s.ask(t, "DELETE", c.path, "", c.header); got.status != c.status {
			t.Errorf("%s: %d, want %d: %s", name, got.status, c.status, got.body)
		}
	}
	if got := s.ask(t, "GET", "/v1/exports?reason=x", ""); got.status != 422 {
		t.Errorf("a read has a reason: %d", got.status)
	}
}

// auditLog is the newest of what is kept, whoever may read it.
func (s *stand) auditLog(t *testing.T) []audit.Entry {
	t.Helper()
	entries, _, err := s.audit.Page(t.Context(), audit.Position{}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
