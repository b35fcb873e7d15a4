package main

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// provider publishes the Terraform provider, in the form that Terraform installs it from
// a mirror: a zip whose program has the version in its name.
func (r *release) provider(ctx context.Context, arch string) error {
	name := "terraform-provider-isthmus_v" + r.source.version
	bin := filepath.Join(r.staged(arch), name)
	if err := r.goBuild(ctx, filepath.Join(r.root, "terraform", "provider"), arch, bin, ".", "-X main.version="+r.source.version); err != nil {
		return err
	}
	out, err := os.Create(r.file("terraform-provider-isthmus", "_linux_"+arch+".zip"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	w := zip.NewWriter(out)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: r.source.time}
	header.SetMode(0o755)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	in, err := os.Open(bin)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if _, err := io.Copy(entry, in); err != nil {
		return fmt.Errorf("zip the provider: %w", err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
