package consultest

import (
	"net"
	"strconv"

	"github.com/hashicorp/consul/api"
)

// Register registers or replaces a service on the agent's node.
func (a *Agent) Register(s *api.AgentServiceRegistration) {
	a.t.Helper()
	if err := a.client.Agent().ServiceRegister(s); err != nil {
		a.t.Fatal(err)
	}
}

// JoinWAN federates the datacenters of both agents, as WAN-joined ones.
func (a *Agent) JoinWAN(o *Agent) {
	a.t.Helper()
	if err := a.client.Agent().Join(net.JoinHostPort(o.opts.Bind, strconv.Itoa(o.ports["serf_wan"])), true); err != nil {
		a.t.Fatal(err)
	}
}

// Deregister removes a service by its ID.
func (a *Agent) Deregister(id string) {
	a.t.Helper()
	if err := a.client.Agent().ServiceDeregister(id); err != nil {
		a.t.Fatal(err)
	}
}

// SetTTL tells the TTL check of that ID: api.HealthPassing, HealthWarning or
// HealthCritical.
func (a *Agent) SetTTL(checkID, status string) {
	a.t.Helper()
	if err := a.client.Agent().UpdateTTL(checkID, "set by the test", status); err != nil {
		a.t.Fatal(err)
	}
}

// Token makes a token with these ACL rules.
func (a *Agent) Token(name, rules string) string {
	a.t.Helper()
	if _, _, err := a.client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil); err != nil {
		a.t.Fatal(err)
	}
	token, _, err := a.client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: name}}}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return token.SecretID
}
