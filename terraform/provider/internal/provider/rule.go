package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/isthmus-mesh/isthmus/federation/client"
)

// rule is the resource of one kind.
type rule[T any] struct {
	kind[T]
	api *client.Client // nil until the provider is configured
}

// document is a rule as JSON's values, its numbers as they are written; raw is its text.
type (
	document = map[string]any
	raw      = json.RawMessage
)

var (
	_ resource.ResourceWithConfigure   = (*rule[struct{}])(nil)
	_ resource.ResourceWithImportState = (*rule[struct{}])(nil)
	_ resource.ResourceWithModifyPlan  = (*rule[struct{}])(nil)
)

func (r *rule[T]) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "isthmus_" + r.name
}

func (r *rule[T]) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = r.schemaOf()
}

func (r *rule[T]) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.api, _ = req.ProviderData.(*client.Client)
}

func (r *rule[T]) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("name"), req, resp)
}

func (r *rule[T]) rules() client.Rules[raw] { return client.Kind[raw](r.api, r.path) }

func (r *rule[T]) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	want, err := r.body(req.Plan.Raw)
	if err != nil {
		resp.Diagnostics.AddError(r.failed("create", req.Plan.Raw), err.Error())
		return
	}
	made, err := r.rules().Create(ctx, want, false)
	if status(err) == http.StatusConflict {
		err = fmt.Errorf("%w\nIf it is to be managed here: terraform import isthmus_%s.RESOURCE %s", err, r.name, text(req.Plan.Raw, "name"))
	}
	if err != nil {
		resp.Diagnostics.AddError(r.failed("create", req.Plan.Raw), err.Error())
		return
	}
	resp.Diagnostics.Append(r.store(&resp.State, req.Plan.Raw, made)...)
}

func (r *rule[T]) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	now, err := r.rules().Get(ctx, text(req.State.Raw, "name"))
	if status(err) == http.StatusNotFound {
		resp.State.RemoveResource(ctx) // somebody removed it: the plan makes it anew
		return
	}
	if err != nil {
		resp.Diagnostics.AddError(r.failed("read", req.State.Raw), err.Error())
		return
	}
	resp.Diagnostics.Append(r.store(&resp.State, req.State.Raw, now)...)
}

func (r *rule[T]) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	want, err := r.body(req.Plan.Raw)
	var put raw
	if err == nil {
		put, err = r.rules().Replace(ctx, text(req.State.Raw, "name"), want, text(req.State.Raw, etag), false)
	}
	if err != nil {
		resp.Diagnostics.AddError(r.failed("update", req.Plan.Raw), explain(err))
		return
	}
	resp.Diagnostics.Append(r.store(&resp.State, req.Plan.Raw, put)...)
}

func (r *rule[T]) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	err := r.rules().Delete(ctx, text(req.State.Raw, "name"), text(req.State.Raw, etag), false)
	if err != nil && status(err) != http.StatusNotFound {
		resp.Diagnostics.AddError(r.failed("delete", req.State.Raw), explain(err))
	}
}

// body is what the API takes: the attributes but the etag.
func (r *rule[T]) body(v tftypes.Value) (raw, error) {
	doc := document{}
	for name, value := range fields(v) {
		if name == etag {
			continue
		}
		name = r.field("", name)
		x, err := toJSON(value, name, r.field)
		if err != nil {
			return nil, err
		}
		if x != nil {
			doc[name] = x
		}
	}
	return json.Marshal(doc)
}

// field is the JSON name of an attribute, the way back of rename.
func (r *rule[T]) field(within, name string) string {
	for path, attribute := range r.renamed {
		if parent, last := split(path); parent == within && attribute == name {
			return last
		}
	}
	return name
}

// split cuts the last name off a path.
func split(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// store keeps what the API answered in the state; prior is what was planned or held.
func (r *rule[T]) store(state *tfsdk.State, prior tftypes.Value, answer raw) diag.Diagnostics {
	var found diag.Diagnostics
	doc, err := decode(answer)
	if spec, ok := doc["spec"].(document); ok && r.spec {
		spec[etag] = doc[etag]
		doc = spec
	}
	if err == nil {
		state.Raw, err = fromJSON(doc, prior.Type(), prior, "", r.field)
	}
	if err != nil {
		found.AddError("The federation's answer", err.Error())
	}
	return found
}

// decode reads a rule with its numbers as they are written.
func decode(answer raw) (document, error) {
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.UseNumber()
	var doc document
	err := dec.Decode(&doc)
	return doc, err
}

// text is a text attribute of a resource.
func text(v tftypes.Value, name string) string {
	var s string
	if f, ok := fields(v)[name]; ok && f.IsKnown() && !f.IsNull() {
		_ = f.As(&s) // it is a text
	}
	return s
}

func (r *rule[T]) failed(verb string, v tftypes.Value) string {
	return fmt.Sprintf("Cannot %s the %s %s", verb, strings.ReplaceAll(r.name, "_", " "), text(v, "name"))
}

// explain adds what to do about a version that is not the one planned with.
func explain(err error) string {
	if status(err) == http.StatusPreconditionFailed {
		return err.Error() + "\nSomebody else has changed it since the plan: plan again."
	}
	return err.Error()
}

// status is the HTTP status of a refusal, 0 for any other error.
func status(err error) int {
	if refused, ok := errors.AsType[*client.StatusError](err); ok {
		return refused.Status
	}
	return 0
}
