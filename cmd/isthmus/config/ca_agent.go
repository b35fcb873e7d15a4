package config

import (
	"errors"
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/identity/ca/agent"
)

// CAAgent is the file of `isthmus ca agent`.
type CAAgent struct {
	// Dir keeps the host's key and SVIDs (mode 0700).
	Dir string `yaml:"dir"`
	// Socket is the absolute path of the Unix socket at which the host's workloads
	// reach the Workload API, at most 103 bytes.
	Socket string `yaml:"socket"`
	// Address is the CA's host:port; default that of the join token.
	Address string `yaml:"address"`
	// TokenFile holds the join token that `isthmus ca token` printed. It is needed
	// until the host has joined, and again if it was cut off for the life of an SVID.
	TokenFile string `yaml:"token_file"`
	// Admin is the loopback ip:port of /metrics, /healthz and /readyz; empty
	// serves none.
	Admin string `yaml:"admin"`
	// Log is the form of the log on standard error.
	Log Log `yaml:"log"`
}

// LoadCAAgent reads and checks the file of an agent.
func LoadCAAgent(path string) (*CAAgent, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := CAAgent{Log: Default().Log}
	if err := environment.DecodeValid(path, data, &c, c.Validate); err != nil {
		return nil, err
	}
	return &c, nil
}

// Validate reports every problem.
func (c *CAAgent) Validate() error {
	return errors.Join(c.Config().Validate(), validateAdmin(c.Admin), strictyaml.Within("log", c.Log.validate()))
}

// Config is the file as the agent takes it.
func (c *CAAgent) Config() agent.Config {
	return agent.Config{Dir: c.Dir, Socket: c.Socket, Address: c.Address, TokenFile: c.TokenFile}
}
