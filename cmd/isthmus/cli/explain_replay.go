package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// maxRecorded bounds a file of recorded calls: a hundred of services with a thousand
// endpoints each, several times over.
const maxRecorded = 256 << 20

// write keeps calls, with all that their decisions had read, in a file.
func (k *realCalls) write(calls *resource.Calls) error {
	if k.record == "" {
		return nil
	}
	data, err := json.Marshal(calls)
	if err != nil {
		return err
	}
	return os.WriteFile(k.record, append(data, '\n'), 0o600)
}

// repeated are the calls of a file, with the ledgers of this program.
type repeated struct {
	route.Repeated
	Trails []route.Trail `json:"trails"`
}

// repeat makes the decisions of a file again; nobody is asked.
func repeat(c *cobra.Command, file string) error {
	saved, err := readRecorded(file)
	if err != nil {
		return err
	}
	done, err := saved.Repeat()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	case done.Exact+done.Inexact == 0:
		return fmt.Errorf("%s: has no decision to repeat: write it with isthmus explain --record", file)
	}
	out := c.OutOrStdout()
	if asked, _ := c.Flags().GetBool("json"); asked {
		err = printJSON(out, repeated{done, saved.Trails})
	} else {
		_, err = fmt.Fprintf(out, "%s\n%d of %d decisions of %d calls come out as they were made", trailsText(saved.Trails, otherwiseHere), done.Exact, done.Exact+done.Inexact, done.Calls)
		if err == nil && done.Unsaved > 0 {
			_, err = fmt.Fprintf(out, "; %d were not recorded with what they had read", done.Unsaved)
		}
		_, _ = fmt.Fprintln(out)
	}
	if err == nil && done.Inexact > 0 {
		return fmt.Errorf("%d decisions come out otherwise than they were made", done.Inexact)
	}
	return err
}

// otherwiseHere is what is said of a decision that comes out otherwise from a file.
const otherwiseHere = "This program decides otherwise than the gateway did: they are of different versions, or the file was changed."

func readRecorded(file string) (*route.SavedTrails, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxRecorded+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecorded {
		return nil, fmt.Errorf("%s: longer than %d bytes", file, maxRecorded)
	}
	saved := new(route.SavedTrails)
	if err := json.Unmarshal(data, saved); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return saved, nil
}

// replayArgs refuses what a replay does not go with.
func replayArgs(k *realCalls, args []string) error {
	if k.asked() || k.admin != "" || k.record != "" || len(args) > 0 {
		return usageError{errors.New("--replay FILE repeats what is in the file: it goes with --json alone")}
	}
	return nil
}
