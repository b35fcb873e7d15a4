package provider

import (
	"context"
	"math"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/isthmus-mesh/isthmus/federation/client"
)

// reading is what data sources share.
type reading struct {
	name string
	api  *client.Client
}

func (r *reading) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "isthmus_" + r.name
}

func (r *reading) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	r.api, _ = req.ProviderData.(*client.Client)
}

// ready reports whether there is a federation to ask.
func (r *reading) ready(found *diag.Diagnostics) bool {
	if r.api == nil {
		found.AddError("No federation to ask", "The provider's block is not known before the apply; data sources need it at the plan.")
	}
	return r.api != nil
}

func computedText(description string) schema.StringAttribute {
	return schema.StringAttribute{Computed: true, Description: description}
}

func computedNumber(description string) schema.Int64Attribute {
	return schema.Int64Attribute{Computed: true, Description: description}
}

func nested(description string, attributes map[string]schema.Attribute) schema.ListNestedAttribute {
	return schema.ListNestedAttribute{Computed: true, Description: description, NestedObject: schema.NestedAttributeObject{Attributes: attributes}}
}

// count is a number of the API as Terraform's.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
