package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// Address is the provider's own, in required_providers.
const Address = "registry.terraform.io/isthmus-mesh/isthmus"

// New returns what makes the provider.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &isthmus{version: version} }
}

type isthmus struct{ version string }

// settings are the provider's block.
type settings struct {
	API          types.String `tfsdk:"api"`
	Token        types.String `tfsdk:"token"`
	TokenFile    types.String `tfsdk:"token_file"`
	WorkloadAPI  types.String `tfsdk:"workload_api"`
	FederationID types.String `tfsdk:"federation_id"`
	Reason       types.String `tfsdk:"reason"`
}

func (p *isthmus) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = "isthmus", p.version
}

func (p *isthmus) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	text := func(description string, sensitive bool) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, Description: description, Sensitive: sensitive}
	}
	resp.Schema = schema.Schema{
		Description: "Peers, exports, imports, intentions and traffic policies of an Isthmus federation, over its REST API.",
		Attributes: map[string]schema.Attribute{
			"api":           text("The federation's REST API: a Unix socket's path, http://IP:PORT of a loopback address, or https://HOST:PORT of its mTLS listener. Default: ISTHMUS_API, else /run/isthmus/api.sock.", false),
			"token":         text("Token of a loopback address, or of an OIDC issuer over https. Excludes token_file.", true),
			"token_file":    text("File that holds the token. Default: ISTHMUS_TOKEN_FILE.", false),
			"workload_api":  text("With https: the SPIFFE Workload API that gives this user's SVID. Default: SPIFFE_ENDPOINT_SOCKET.", false),
			"federation_id": text("With https: SPIFFE ID of the federation that is meant. Default: ISTHMUS_FEDERATION_ID.", false),
			"reason":        text("Why, as the federation's history keeps it beside who. Default: terraform.", false),
		},
	}
}

func (p *isthmus) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var s settings
	if resp.Diagnostics.Append(req.Config.Get(ctx, &s)...); resp.Diagnostics.HasError() {
		return
	}
	for name, value := range map[string]types.String{
		"api": s.API, "token": s.Token, "token_file": s.TokenFile, "workload_api": s.WorkloadAPI, "federation_id": s.FederationID,
	} {
		if value.IsUnknown() {
			// The federation is made by the same apply: nothing can be asked at the plan.
			resp.Diagnostics.AddWarning("The federation is not known yet", name+" is known after the apply only: the plan was not compared with the federation.")
			return
		}
	}
	api, err := connect(ctx, s)
	if err != nil {
		resp.Diagnostics.AddError("The provider's block", err.Error())
		return
	}
	resp.ResourceData, resp.DataSourceData = api, api
}

func (p *isthmus) Resources(context.Context) []func() resource.Resource {
	var all []func() resource.Resource
	for _, k := range kinds() {
		all = append(all, k)
	}
	return all
}

func (p *isthmus) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newServices, newClusters, newExplain}
}
