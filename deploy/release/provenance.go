package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
)

// statement is an in-toto statement with a SLSA provenance (slsa.dev/provenance/v1).
// It is not signed: who publishes a release signs it with the key that its users know.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []dependencyAt `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder map[string]any `json:"builder"`
	} `json:"runDetails"`
}

type dependencyAt struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// provenance says how each file came about. It holds nothing of the machine, so that
// whoever builds the same commit gets the same statement.
func (r *release) provenance(context.Context) error {
	const repository = "git+https://" + module
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	names, err := r.published()
	if err != nil {
		return err
	}
	for _, name := range names {
		sum, err := digest(filepath.Join(r.dist(), name))
		if err != nil {
			return err
		}
		s.Subject = append(s.Subject, subject{Name: name, Digest: map[string]string{"sha256": sum}})
	}
	d := &s.Predicate.BuildDefinition
	d.BuildType = "https://" + module + "/deploy/release/v1"
	d.ExternalParameters = map[string]any{"version": r.source.version, "architectures": r.archs}
	d.InternalParameters = map[string]any{"go": runtime.Version(), "flags": flags(r.told()), "modified": r.source.modified}
	sums, err := digest(filepath.Join(r.root, "go.sum"))
	if err != nil {
		return err
	}
	d.ResolvedDependencies = []dependencyAt{
		{URI: repository + "@" + r.source.commit, Digest: map[string]string{"gitCommit": r.source.commit}},
		{URI: "https://go.dev/dl/" + runtime.Version() + ".src.tar.gz"},
		{URI: "file:go.sum", Digest: map[string]string{"sha256": sums}},
	}
	s.Predicate.RunDetails.Builder = map[string]any{"id": "https://" + module + "/deploy/release"}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.file("isthmus", ".provenance.json"), append(data, '\n'), 0o644)
}
