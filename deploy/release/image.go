package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the container, as in other images without a shell.
const nobody = 65532

// image writes one OCI archive of all architectures, built from nothing: the programs,
// the certificates of the public authorities, a user, and empty folders. There is no
// shell in it and no registry behind it.
func (r *release) image(context.Context) error {
	var images v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range r.archs {
		img, err := r.imageOf(arch)
		if err != nil {
			return fmt.Errorf("image of %s: %w", arch, err)
		}
		images = mutate.AppendManifests(images, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	// One name for all of them: whoever reads it takes the one for its architecture.
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: images, Descriptor: v1.Descriptor{Annotations: map[string]string{
			"org.opencontainers.image.ref.name": r.source.version, // what podman and skopeo ask for
			"io.containerd.image.name":          "isthmus:" + r.source.version,
		}},
	})
	dir := filepath.Join(r.stage, "oci")
	if _, err := layout.Write(dir, index); err != nil {
		return err
	}
	all, err := tree(dir, "")
	if err != nil {
		return err
	}
	data, err := writeTar(all, r.source.time)
	if err != nil {
		return err
	}
	return os.WriteFile(r.file("isthmus", "_image.tar"), data, 0o644)
}

func (r *release) imageOf(arch string) (v1.Image, error) {
	base := []entry{
		{name: "etc", mode: 0o755, dir: true},
		{name: "etc/passwd", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:0:root:/:/none\nisthmus:x:%d:%d:isthmus:/var/lib/isthmus:/none\n", nobody, nobody)},
		{name: "etc/group", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:\nisthmus:x:%d:\n", nobody)},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: authorities()},
		{name: "etc/isthmus", mode: 0o755, dir: true},
		{name: "run/isthmus", mode: 0o755, uid: nobody, dir: true},
		{name: "var/lib/isthmus", mode: 0o700, uid: nobody, dir: true},
		{name: "tmp", mode: 0o1777, dir: true},
	}
	var programs []entry
	for _, p := range r.programs {
		for name, to := range map[string]entry{
			p.name:                {name: "usr/bin/" + p.name, mode: 0o755},
			p.name + ".copyright": {name: "usr/share/doc/" + p.name + "/copyright", mode: 0o644},
			p.name + ".cdx.json":  {name: "usr/share/doc/" + p.name + "/" + p.name + ".cdx.json", mode: 0o644},
		} {
			data, err := os.ReadFile(filepath.Join(r.staged(arch), name))
			if err != nil {
				return nil, err
			}
			to.data = data
			programs = append(programs, to)
		}
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, entries := range [][]entry{base, sorted(programs)} {
		data, err := writeTar(entries, r.source.time)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
			tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: builder, Created: v1.Time{Time: r.source.time}}}); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: r.source.time}
	config.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", nobody, nobody), WorkingDir: "/",
		Entrypoint:   []string{"/usr/bin/isthmus"},
		Cmd:          []string{"run", "-c", "/etc/isthmus/isthmus.yaml"},
		Env:          []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		ExposedPorts: map[string]struct{}{"7443/tcp": {}, "7443/udp": {}},
		StopSignal:   "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title": "isthmus", "org.opencontainers.image.version": r.source.version,
			"org.opencontainers.image.revision": r.source.commit, "org.opencontainers.image.source": "https://" + module,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, config)
}

// authorities are those that browsers trust without further conditions, in PEM: for
// bundle endpoints, OIDC issuers and clouds.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // a file cannot say its condition
		}
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
	}
	return b.Bytes()
}
