package provider

import (
	"context"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// services lists what the cluster knows.
type services struct{ reading }

func newServices() datasource.DataSource { return &services{reading{name: "services"}} }

type servicesModel struct {
	Namespace types.String   `tfsdk:"namespace"`
	Services  []serviceModel `tfsdk:"services"`
}

type serviceModel struct {
	Name          string       `tfsdk:"name"`
	Ports         []portModel  `tfsdk:"ports"`
	Endpoints     int64        `tfsdk:"endpoints"`
	Ready         int64        `tfsdk:"ready"`
	ExportedTo    []string     `tfsdk:"exported_to"`
	TrafficPolicy string       `tfsdk:"traffic_policy"`
	Remote        []offerModel `tfsdk:"remote"`
}

type portModel struct {
	Name     string `tfsdk:"name"`
	Protocol string `tfsdk:"protocol"`
}

type offerModel struct {
	Cluster string `tfsdk:"cluster"`
	Name    string `tfsdk:"name"`
	Ready   int64  `tfsdk:"ready"`
	Total   int64  `tfsdk:"total"`
	Import  string `tfsdk:"import"`
}

func (*services) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "Services as this cluster sees them: its own endpoints, and what peers offer.",
		Attributes: map[string]schema.Attribute{
			"namespace": schema.StringAttribute{Optional: true, Description: "Only services of this namespace."},
			"services": nested("The services, by name.", map[string]schema.Attribute{
				"name":           computedText("SERVICE.NAMESPACE."),
				"ports":          nested("Named ports.", map[string]schema.Attribute{"name": computedText("Name of the port."), "protocol": computedText("tcp, http, grpc, tls or udp.")}),
				"endpoints":      computedNumber("Endpoints of the own cluster."),
				"ready":          computedNumber("Those that answer."),
				"exported_to":    schema.ListAttribute{Computed: true, ElementType: types.StringType, Description: "Peers to which the own endpoints are offered."},
				"traffic_policy": computedText("The policy that covers it, if one does."),
				"remote": nested("What peers offer of it.", map[string]schema.Attribute{
					"cluster": computedText("The peer."), "name": computedText("Its name there."), "ready": computedNumber("Endpoints that answer there."),
					"total": computedNumber("All endpoints there."), "import": computedText("The import that takes it."),
				}),
			}),
		},
	}
}

func (d *services) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m servicesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.ready(&resp.Diagnostics) {
		return
	}
	m.Services = []serviceModel{}
	for s, err := range d.api.Services().All(ctx) {
		if err != nil {
			resp.Diagnostics.AddError("Cannot list the services", err.Error())
			return
		}
		if ns := m.Namespace.ValueString(); ns != "" && !strings.HasSuffix(s.Name.String(), "."+ns) {
			continue
		}
		row := serviceModel{
			Name: s.Name.String(), Endpoints: int64(s.Endpoints), Ready: int64(s.Ready), TrafficPolicy: s.TrafficPolicy,
			Ports: []portModel{}, ExportedTo: []string{}, Remote: []offerModel{},
		}
		for _, p := range s.Ports {
			row.Ports = append(row.Ports, portModel{Name: p.Name, Protocol: string(p.Protocol)})
		}
		for _, c := range s.ExportedTo {
			row.ExportedTo = append(row.ExportedTo, string(c))
		}
		for _, o := range s.Remote {
			row.Remote = append(row.Remote, offerModel{
				Cluster: string(o.Cluster), Name: o.Name.String(), Ready: count(o.Ready), Total: count(o.Total), Import: o.Import,
			})
		}
		m.Services = append(m.Services, row)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}
