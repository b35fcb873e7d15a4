package resource

import "github.com/isthmus-mesh/isthmus/federation/audit"

// AuditEntry is one entry of the audit log.
type AuditEntry = audit.Entry

// AuditReport is what a verification of the audit log found.
type AuditReport = audit.Report

// AuditPage is one page of the audit log, newest first.
type AuditPage struct {
	Items []AuditEntry `json:"items" nullable:"false"`
	// NextCursor asks for the entries before; "" is the end. A page may have fewer
	// entries than the limit, or none, and a cursor: a filter let little through.
	NextCursor string `json:"next_cursor,omitempty" doc:"Ask for the entries before with this cursor; absent at the oldest one that is kept."`
}
