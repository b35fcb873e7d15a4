package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// roleKey is where an operation's metadata says which role it needs.
const roleKey = "role"

// needs is the metadata of an operation that asks for another role than its
// method does: huma.Operation{Metadata: needs(Admin)}.
func needs(r Role) map[string]any { return map[string]any{roleKey: r} }

// roleOf is the role that an operation needs: what it was registered with, else
// viewers read and operators write. A write that nobody thought about is never
// open to a viewer.
func roleOf(op *huma.Operation) Role {
	if r, ok := op.Metadata[roleKey].(Role); ok {
		return r
	}
	switch op.Method {
	case http.MethodGet, http.MethodHead:
		return Viewer
	default:
		return Operator
	}
}

// unkeptKey marks operations whose answers hold a secret: they are not kept for
// idempotency keys.
const unkeptKey = "unkept"

// unkept adds the mark to an operation's metadata.
func unkept(metadata map[string]any) map[string]any {
	metadata[unkeptKey] = true
	return metadata
}
