package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-source/cli"
)

func TestAWSChecksItsFile(t *testing.T) {
	run := func(args ...string) (code int, out, complaint string) {
		var o, e bytes.Buffer
		code = cli.Run(t.Context(), args, strings.NewReader(""), &o, &e)
		return code, o.String(), e.String()
	}
	if code, out, _ := run("aws", "--help"); code != 0 || !strings.Contains(out, "cloud_map: [{namespace: internal}]") || !strings.Contains(out, "--check") {
		t.Errorf("help ends with %d: %s", code, out)
	}
	file := filepath.Join(t.TempDir(), "aws.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("accounts:\n  - regions: [us-east-1]\n    cloud_map: [{namespace: internal}]\n") // as --help has it
	if code, out, complaint := run("aws", "--check", "-c", file); code != 0 || !strings.Contains(out, "is valid") {
		t.Errorf("ends with %d: %s %s", code, out, complaint)
	}
	write("interval: 1y\naccounts:\n  - regions: [moon]\n    cloud_maps: []\n")
	code, _, complaint := run("aws", "--check", "-c", file)
	for _, want := range []string{":1:11: interval", ":3:15: accounts[0].regions[0]", ":4:5: accounts[0].cloud_maps: unknown key"} {
		if code == 0 || !strings.Contains(complaint, want) {
			t.Errorf("ends with %d and says nothing of %s: %s", code, want, complaint)
		}
	}
	if code, _, complaint := run("aws", "--check", "-c", file+".missing"); code == 0 || !strings.Contains(complaint, "no such file") {
		t.Errorf("a file that is missing ends with %d: %s", code, complaint)
	}
}
