package provider

import (
	"context"
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	api "github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// explanation says where a call would go now, and why.
type explanation struct{ reading }

func newExplain() datasource.DataSource { return &explanation{reading{name: "explain"}} }

type explainModel struct {
	Service   string       `tfsdk:"service"`
	Port      types.String `tfsdk:"port"`
	Pin       types.String `tfsdk:"pin"`
	From      types.String `tfsdk:"from"`
	Gateway   types.String `tfsdk:"gateway"`
	Status    types.String `tfsdk:"status"`
	Cluster   types.String `tfsdk:"cluster"`
	Why       types.String `tfsdk:"why"`
	Otherwise types.String `tfsdk:"otherwise"`
	Ledger    types.String `tfsdk:"ledger"`
}

func (*explanation) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	given := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, Description: description}
	}
	resp.Schema = schema.Schema{
		Description: "Where a call to a service would go now, and why: what `isthmus explain` says.",
		Attributes: map[string]schema.Attribute{
			"service":   schema.StringAttribute{Required: true, Description: "SERVICE.NAMESPACE; without a namespace it is in default."},
			"port":      given("Name of a port; default the only one."),
			"pin":       given("Only this cluster."),
			"from":      given("Ask for calls of this cluster; default the own one."),
			"gateway":   given("Ask for calls through this gateway; default the one that reported last."),
			"status":    computedText("ok, or why there is nowhere to go."),
			"cluster":   computedText("The cluster that would be chosen."),
			"why":       computedText("The decision in a sentence."),
			"otherwise": computedText("What would have made another one the choice."),
			"ledger":    computedText("The whole record of the decision, as JSON."),
		},
	}
}

func (d *explanation) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m explainModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.ready(&resp.Diagnostics) {
		return
	}
	service, err := catalog.ParseServiceName(m.Service)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("service"), "No service has this name", err.Error())
		return
	}
	e, err := d.api.Explain(ctx, api.ExplainQuery{
		Service: service, Port: m.Port.ValueString(), Pin: catalog.ClusterName(m.Pin.ValueString()),
		From: catalog.ClusterName(m.From.ValueString()), Gateway: m.Gateway.ValueString(),
	})
	if err != nil {
		resp.Diagnostics.AddError("Cannot explain "+m.Service, err.Error())
		return
	}
	ledger, err := json.Marshal(e.Ledger)
	if err != nil {
		resp.Diagnostics.AddError("Cannot explain "+m.Service, err.Error())
		return
	}
	m.Status, m.Why, m.Otherwise, m.Ledger = types.StringValue(e.Ledger.Status.String()), types.StringValue(e.Ledger.Why), types.StringValue(e.Ledger.Otherwise), types.StringValue(string(ledger))
	m.Cluster = types.StringValue("")
	if c := e.Ledger.Choice; c != nil {
		m.Cluster = types.StringValue(string(c.Cluster))
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}
