package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
)

// clusters lists the own cluster and its peers.
type clusters struct{ reading }

func newClusters() datasource.DataSource { return &clusters{reading{name: "clusters"}} }

type clustersModel struct {
	Clusters []clusterModel `tfsdk:"clusters"`
}

type clusterModel struct {
	Name     string `tfsdk:"name"`
	ID       string `tfsdk:"spiffe_id"`
	Own      bool   `tfsdk:"own"`
	State    string `tfsdk:"state"`
	Cloud    string `tfsdk:"cloud"`
	Region   string `tfsdk:"region"`
	Gateways int64  `tfsdk:"gateways"`
	Services int64  `tfsdk:"services"`
}

func (*clusters) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "The own cluster and its peers, as they are now.",
		Attributes: map[string]schema.Attribute{
			"clusters": nested("The clusters, by name.", map[string]schema.Attribute{
				"name":      computedText("Name of the cluster."),
				"spiffe_id": computedText("SPIFFE ID of its federation."),
				"own":       schema.BoolAttribute{Computed: true, Description: "Whether it is the own one."},
				"state":     computedText("ok, connecting, control_lost or refused."),
				"cloud":     computedText("Its cloud."),
				"region":    computedText("Its region."),
				"gateways":  computedNumber("Gateways that are known and not draining."),
				"services":  computedNumber("Own services, or those imported from it."),
			}),
		},
	}
}

func (d *clusters) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	if !d.ready(&resp.Diagnostics) {
		return
	}
	m := clustersModel{Clusters: []clusterModel{}}
	for c, err := range d.api.Clusters().All(ctx) {
		if err != nil {
			resp.Diagnostics.AddError("Cannot list the clusters", err.Error())
			return
		}
		m.Clusters = append(m.Clusters, clusterModel{
			Name: string(c.Name), ID: c.ID, Own: c.Own, State: string(c.State), Cloud: c.Locality.Cloud, Region: c.Locality.Region,
			Gateways: int64(c.Gateways), Services: int64(c.Services),
		})
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}
