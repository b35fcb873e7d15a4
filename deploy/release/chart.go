package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
)

// versions are the lines of Chart.yaml that name the release.
var versions = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// chart publishes the Helm chart, with the release's version.
func (r *release) chart(context.Context) error {
	all, err := tree(filepath.Join(r.root, "deploy", "helm", "isthmus"), "isthmus")
	if err != nil {
		return err
	}
	for i, e := range all {
		if e.name != "isthmus/Chart.yaml" {
			continue
		}
		if n := len(versions.FindAll(e.data, -1)); n != 2 {
			return fmt.Errorf("Chart.yaml: %d lines of version and appVersion, want one of each", n)
		}
		all[i].data = versions.ReplaceAll(bytes.Clone(e.data), fmt.Appendf(nil, "${1}: %q", r.source.version))
	}
	return writeTarGz(r.file("isthmus", "_chart.tgz"), all, r.source.time)
}
