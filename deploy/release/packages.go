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
	var contents files.Contents
	for _, c := range info.Contents {
		if !filepath.IsAbs(c.Source) {
			c.Source = filepath.Join(deploy, c.Source)
		}
		contents = append(contents, flat(c)...)
	}
	info.Contents = contents
	for _, c := range contents {
		if c.FileInfo == nil {
			c.FileInfo = &files.ContentFileInfo{}
		}
		c.FileInfo.MTime, c.FileInfo.Owner, c.FileInfo.Group = r.source.time, "root", "root"
		if c.FileInfo.Mode == 0 {
			c.FileInfo.Mode = 0o644
		}
	}
	for _, script := range []*string{&info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		if *script != "" {
			*script = filepath.Join(deploy, *script)
		}
	}
}

// flat is the files of a folder, whose own times nfpm would keep; anything else is
// itself.
func flat(c *files.Content) files.Contents {
	if c.Type != files.TypeTree {
		return files.Contents{c}
	}
	entries, err := os.ReadDir(c.Source)
	if err != nil {
		return files.Contents{c} // nfpm says what is wrong with it
	}
	var out files.Contents
	for _, e := range entries {
		out = append(out, &files.Content{Source: filepath.Join(c.Source, e.Name()), Destination: filepath.Join(c.Destination, e.Name())})
	}
	return out
}
