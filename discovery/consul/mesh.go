package consul

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// What Consul of version 1.21 answers where its service mesh is turned off.
const meshDisabled = "Connect must be enabled"

// needMesh reads the mesh's trust domain for the first instance that has to do
// with it. It holds for the life of a datacenter, and is asked for again with
// every complete read.
func (r *run) needMesh(ctx context.Context, entries []*api.ServiceEntry) error {
	if r.meshRead || !slices.ContainsFunc(entries, ofMesh) {
		return nil
	}
	m, err := r.readMesh(ctx)
	switch {
	case err == nil:
		r.mesh, r.meshRead = m, true
	case r.mesh.trustDomain == "":
		return err
	default: // what is known goes on
		r.note(partReads, err)
	}
	return nil
}

func (s *Source) readMesh(ctx context.Context) (mesh, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Config.RequestTimeout)
	defer cancel()
	roots, meta, err := s.client.Connect().CARoots((&api.QueryOptions{}).WithContext(ctx))
	if status, ok := err.(api.StatusError); ok && status.Code == http.StatusInternalServerError && strings.Contains(status.Body, meshDisabled) { //nolint:errorlint // consul/api returns it bare
		return mesh{}, nil
	}
	if err == nil {
		err = s.opts.Config.trust(meta)
	}
	if err != nil {
		return mesh{}, fmt.Errorf("consul connect ca roots: %w", err)
	}
	return mesh{trustDomain: strings.ToLower(roots.TrustDomain)}, nil
}

// keepSidecars takes the sidecars among the instances of one Consul service. The
// services that they stand before are read again where theirs have changed, unless
// that is being done.
func (r *run) keepSidecars(name string, entries []*api.ServiceEntry, reading []string) {
	fresh := r.opts.Config.sidecarsOf(entries)
	for before, by := range r.sidecars {
		if _, still := fresh[before]; by[name] != nil && !still {
			delete(by, name)
			if len(by) == 0 {
				delete(r.sidecars, before)
			}
			r.rereadFor(before, reading)
		}
	}
	for before, list := range fresh {
		if slices.Equal(r.sidecars[before][name], list) {
			continue
		}
		if r.sidecars[before] == nil {
			r.sidecars[before] = map[string][]sidecar{}
		}
		r.sidecars[before][name] = list
		r.rereadFor(before, reading)
	}
}

// rereadFor marks a service, unless it is in reading, which is in order.
func (r *run) rereadFor(name string, reading []string) {
	if _, now := slices.BinarySearch(reading, name); now {
		return
	}
	r.triggers.mu.Lock()
	defer r.triggers.mu.Unlock()
	if _, listed := r.names[name]; listed {
		r.dirty[name] = true
		r.signal()
	}
}

// sidecarsBefore are all sidecars of a service, in an order of their own.
func (r *run) sidecarsBefore(name string) []sidecar {
	by := r.sidecars[name]
	if len(by) == 0 {
		return nil
	}
	var all []sidecar
	for _, list := range by {
		all = append(all, list...)
	}
	slices.SortFunc(all, sidecar.compare)
	return all
}
