package ca_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/doctor"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// isthmus check on two running clusters: all well, and both roots of the peer's
// links and of the own processes named; then without a federation.
func TestCheckOnRunningClusters(t *testing.T) {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	s.Start()
	east := s.Clusters[0]
	check := func(more ...string) (verdicts []doctor.Verdict, code int) {
		args := append([]string{
			"check", "--json", "--api", "http://" + east.API.String(), "--config", filepath.Join(s.Dir, "east", "federation.yaml"),
			"--token-file", filepath.Join(s.Dir, "east", "data", "federation", "api.token"),
		}, more...)
		out, err := exec.Command(stand.Binary(t), args...).Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(out, &verdicts)
		return verdicts, code
	}
	find := func(verdicts []doctor.Verdict, parts ...string) (string, error) {
	next:
		for _, v := range verdicts {
			line := fmt.Sprintf("%s %s: %s", v.Grade, v.Subject, v.Finding)
			for _, p := range parts {
				if !strings.Contains(line, p) {
					continue next
				}
			}
			return v.Subject, nil
		}
		return "", fmt.Errorf("no verdict with %q in %+v", parts, verdicts)
	}
	var far, own string
	stand.Eventually(t, patience, "all is well", func() error {
		verdicts, code := check()
		if code != 0 {
			return fmt.Errorf("exit code %d: %+v", code, verdicts)
		}
		var err error
		if far, err = find(verdicts, "ok root", "of west.test", "link west/gw1 (by gw1)", "peer west"); err != nil {
			return err
		}
		if own, err = find(verdicts, "ok root", "of east.test", "federation east", "gateway gw1"); err != nil {
			return err
		}
		_, err = find(verdicts, "ok own svid: valid for")
		return err
	})
	for _, root := range []string{far, own} {
		verdicts, code := check("--without", strings.Fields(root)[1])
		if _, err := find(verdicts, "fail without root", "would break"); err != nil || code != 1 {
			t.Errorf("without %s: exit code %d, %v", root, code, err)
		}
	}
	if _, code := check("--without", "ffffffff"); code != 1 {
		t.Errorf("without an unknown root: exit code %d", code)
	}
	east.Federation.Kill()
	verdicts, code := check()
	if _, err := find(verdicts, "fail federation: does not answer"); err != nil || code != 1 {
		t.Errorf("exit code %d, %v", code, err)
	}
	if _, err := find(verdicts, "ok workload api", "offers spiffe://east.test/isthmus/cluster/east, valid for"); err != nil {
		t.Error(err)
	}
}
