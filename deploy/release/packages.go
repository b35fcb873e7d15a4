package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers its format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers its format
)

// packages writes the Debian and the RPM package of a program.
func (r *release) packages(p program, arch string) error {
	for _, format := range []string{"deb", "rpm"} {
		if err := r.pack(p, arch, format); err != nil {
			return fmt.Errorf("%s of %s: %w", format, p.name, err)
		}
	}
	return nil
}

func (r *release) pack(p program, arch, format string) error {
	values := map[string]string{"STAGE": r.staged(arch), "VERSION": r.source.version, "ARCH": arch}
	deploy := filepath.Join(r.root, "deploy")
	config, err := nfpm.ParseFileWithEnvMapping(filepath.Join(deploy, "packages", p.name+".nfpm.yaml"), func(name string) string { return values[name] })
	if err != nil {
		return err
	}
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	r.settle(info, deploy)
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	info.Target = filepath.Join(r.dist(), packager.ConventionalFileName(info))
	f, err := os.Create(info.Target)
	if err != nil {
		return err
	}
	err = packager.Package(info, f)
	return cmp.Or(err, f.Close())
}

// settle replaces what would come from this machine: places, times and modes.
func (r *release) settle(info *nfpm.Info, deploy string) {
	info.MTime = r.source.time
	for _, c := range info.Contents {
		if !filepath.IsAbs(c.Source) {
			c.Source = filepath.Join(deploy, c.Source)
		}
		if c.FileInfo == nil {
			c.FileInfo = &files.ContentFileInfo{}
		}
		c.FileInfo.MTime, c.FileInfo.Owner, c.FileInfo.Group = r.source.time, "root", "root"
		if c.FileInfo.Mode == 0 && c.Type != files.TypeTree { // a tree's are those of its files
			c.FileInfo.Mode = 0o644
		}
	}
	for _, script := range []*string{&info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		if *script != "" {
			*script = filepath.Join(deploy, *script)
		}
	}
}
