package federation

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
)

// BundleServer publishes the own trust domain's bundle to whoever asks.
type BundleServer struct {
	// Address is the host:port to listen on (TCP).
	Address string `yaml:"address"`
	// Profile is https_spiffe, where the federation's SVID is shown, or https_web.
	Profile string `yaml:"profile"`
	// CertFile and KeyFile are the PEM files of https_web, read again when they
	// change.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

func (s BundleServer) config() bundleendpoint.ServerConfig {
	return bundleendpoint.ServerConfig{
		Address: s.Address, Profile: bundleendpoint.Profile(s.Profile), CertFile: s.CertFile, KeyFile: s.KeyFile,
	}
}

func endpointOf(e policy.BundleEndpoint) bundleendpoint.Endpoint {
	return bundleendpoint.Endpoint{
		URL: e.URL, Profile: bundleendpoint.Profile(e.Profile), SPIFFEID: e.SPIFFEID, CAFile: e.CAFile,
	}
}

func (v *problems) bundleServer(s BundleServer) {
	if s == (BundleServer{}) {
		return
	}
	for _, p := range s.config().Problems() {
		v.fail("bundle_endpoint."+p.Field, p.Value, p.Rule)
	}
}

func (v *problems) bundleEndpoints(peers []Peer) {
	for i, p := range peers {
		if !p.Bundle.Endpoint.Set() {
			continue
		}
		for _, problem := range endpointOf(p.Bundle.Endpoint).Problems() {
			v.fail(fmt.Sprintf("peers[%d].bundle.endpoint.%s", i, problem.Field), problem.Value, problem.Rule)
		}
	}
}

// admitEndpoint is bundleEndpoints for a peer that is joined over the API.
func admitEndpoint(e policy.BundleEndpoint) error {
	if !e.Set() {
		return nil
	}
	var errs []error
	for _, problem := range endpointOf(e).Problems() {
		errs = append(errs, &catalog.FieldError{Field: "bundle.endpoint." + problem.Field, Value: problem.Value, Rule: problem.Rule})
	}
	return errors.Join(errs...)
}
