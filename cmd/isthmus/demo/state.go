package demo

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// State is demo.json: what runs where, for people and for scripts.
type State struct {
	CA       []CAState      `json:"ca"`
	Clusters []ClusterState `json:"clusters"`
}

// CAState is one trust domain's embedded CA.
type CAState struct {
	TrustDomain string `json:"trust_domain"`
	PID         int    `json:"pid"`
	Socket      string `json:"socket"`
}

// ClusterState is one cluster. API and Token reach its federation's REST API.
type ClusterState struct {
	Name          string         `json:"name"`
	Cloud         string         `json:"cloud"`
	Region        string         `json:"region"`
	API           string         `json:"api"`
	Token         string         `json:"token"`
	FederationPID int            `json:"federation_pid"`
	Gateways      []GatewayState `json:"gateways"`
	Services      []ServiceState `json:"services"`
}

// GatewayState is one gateway: its ways in by HTTP authority and by TCP port.
type GatewayState struct {
	Name  string            `json:"name"`
	PID   int               `json:"pid"`
	HTTP  string            `json:"http"`
	TCP   map[string]string `json:"tcp"`
	Admin string            `json:"admin"`
}

// ServiceState is one service process.
type ServiceState struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
}

// stateOf is the plan with the process IDs and tokens of the moment.
func stateOf(p *Plan, pid func(id string) int, token func(c Cluster) string) State {
	var s State
	for _, d := range p.Domains {
		s.CA = append(s.CA, CAState{TrustDomain: d.TrustDomain, PID: pid("ca-" + d.TrustDomain), Socket: d.Socket})
	}
	for _, c := range p.Clusters {
		cs := ClusterState{
			Name: c.Name, Cloud: c.Cloud, Region: c.Region,
			API: "http://" + c.API.String(), Token: token(c), FederationPID: pid(c.Name + "/federation"),
		}
		for _, g := range c.Gateways {
			tcp := map[string]string{}
			for name, a := range g.TCP {
				tcp[name] = a.String()
			}
			cs.Gateways = append(cs.Gateways, GatewayState{
				Name: g.Name, PID: pid(c.Name + "/" + g.Name), TCP: tcp,
				HTTP: g.HTTP.String(), Admin: "http://" + g.Admin.String(),
			})
		}
		for _, v := range c.Services {
			cs.Services = append(cs.Services, ServiceState{Name: v.Name, PID: pid(c.Name + "/" + v.Name), Address: v.Address.String()})
		}
		s.Clusters = append(s.Clusters, cs)
	}
	return s
}

// write replaces demo.json in one step, so that a reader never sees half of it.
func (s State) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "demo.json"), append(data, '\n'), 0o600)
}

func replaceFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	return os.Rename(tmp, path)
}
