package demo

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// The files of the demo are ordinary configuration files: what one reads there
// can be copied to a real set-up.
//
//go:embed templates
var templates embed.FS

type fileData struct {
	Dir       string
	UID       int
	Plan      *Plan
	Domain    Domain
	Cluster   Cluster
	Gateway   Gateway
	Peers     []peerData
	Entries   []string
	Federated []Domain
}

type peerData struct {
	Cluster
	Addresses []string
	// Bundle is the file of the peer's trust bundle, "" in the own domain.
	Bundle string
}

// WriteFiles writes every configuration file and catalog below the plan's
// folder.
func (p *Plan) WriteFiles() error {
	set, err := template.New("").Funcs(template.FuncMap{"q": quoted}).ParseFS(templates, "templates/*.yaml")
	if err != nil {
		return fmt.Errorf("demo templates: %w", err)
	}
	write := func(path, name string, d fileData) error {
		d.Dir, d.UID, d.Plan = p.Dir, os.Getuid(), p
		var b bytes.Buffer
		if err := set.ExecuteTemplate(&b, name, d); err != nil {
			return fmt.Errorf("demo template %s: %w", name, err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, b.Bytes(), 0o600)
	}
	for _, d := range p.Domains {
		if err := write(p.caConfig(d), "ca.yaml", fileData{Domain: d, Entries: p.entries(d), Federated: p.others(d)}); err != nil {
			return err
		}
	}
	for _, c := range p.Clusters {
		data := fileData{Cluster: c, Domain: p.domain(c.TrustDomain), Peers: p.peers(c)}
		if err := write(filepath.Join(p.Dir, c.Name, "catalog.yaml"), "catalog.yaml", data); err != nil {
			return err
		}
		if err := write(p.federationConfig(c), "federation.yaml", data); err != nil {
			return err
		}
		for _, g := range c.Gateways {
			data.Gateway = g
			if err := write(p.gatewayConfig(c, g), "gateway.yaml", data); err != nil {
				return err
			}
		}
	}
	return nil
}

// quoted is its arguments, one after the other, as one YAML string.
func quoted(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprint(&b, p)
	}
	return strconv.Quote(b.String())
}

// entries are the identities that a trust domain's CA gives to this user.
func (p *Plan) entries(d Domain) []string {
	var ids []string
	for _, c := range p.Clusters {
		if c.TrustDomain != d.TrustDomain {
			continue
		}
		ids = append(ids, c.ID())
		for _, g := range c.Gateways {
			ids = append(ids, c.ID()+"/gateway/"+g.Name)
		}
	}
	return ids
}

func (p *Plan) others(d Domain) []Domain {
	var out []Domain
	for _, o := range p.Domains {
		if o != d {
			out = append(out, o)
		}
	}
	return out
}

func (p *Plan) peers(c Cluster) []peerData {
	var out []peerData
	for _, o := range p.Clusters {
		if o.Name == c.Name {
			continue
		}
		peer := peerData{Cluster: o}
		for _, g := range o.Gateways {
			peer.Addresses = append(peer.Addresses, g.Public.String())
		}
		if o.TrustDomain != c.TrustDomain {
			peer.Bundle = p.domain(o.TrustDomain).Bundle
		}
		out = append(out, peer)
	}
	return out
}
