package exec

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// DefaultMaxSilence is how long a child may print nothing.
	DefaultMaxSilence = 15 * time.Minute
	minSilence        = 100 * time.Millisecond
	maxSilence        = 24 * time.Hour
	// maxArgs and maxEnv bound what is handed to the child.
	maxArgs = 256
	maxEnv  = 256
)

// Config of a command as a source.
type Config struct {
	// Name of the source, a DNS label.
	Name string `yaml:"name"`
	// Command is the program and its arguments; no shell is involved. A program
	// without a slash is looked up in this process's PATH.
	Command []string `yaml:"command"`
	// Env names the variables of this process's environment that the command
	// gets; without them it gets none.
	Env []string `yaml:"env,omitempty"`
	// Dir is the command's working folder; empty means this process's.
	Dir string `yaml:"dir,omitempty"`
	// MaxSilence is how long the command may print nothing before it is taken for
	// dead and started anew; 0 means DefaultMaxSilence.
	MaxSilence time.Duration `yaml:"max_silence,omitempty"`
}

// Validate reports every problem; it starts and opens nothing.
func (c Config) Validate() error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if _, err := catalog.NewSnapshot(c.Name, nil); err != nil {
		fail("name", c.Name, "must be a DNS label")
	}
	switch {
	case len(c.Command) == 0 || c.Command[0] == "":
		fail("command", "", "is missing")
	case len(c.Command) > maxArgs:
		fail("command", len(c.Command), fmt.Sprintf("has more than %d arguments", maxArgs))
	}
	for i, a := range c.Command {
		if strings.ContainsRune(a, 0) {
			fail(fmt.Sprintf("command[%d]", i), a, "must not contain a NUL")
		}
	}
	if len(c.Env) > maxEnv {
		fail("env", len(c.Env), fmt.Sprintf("has more than %d variables", maxEnv))
	}
	for i, name := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			fail(fmt.Sprintf("env[%d]", i), name, "must be the name of a variable; its value comes from this process's environment")
		}
	}
	if c.MaxSilence != 0 && (c.MaxSilence < minSilence || c.MaxSilence > maxSilence) {
		fail("max_silence", c.MaxSilence.String(), "must be between 100ms and 24h")
	}
	return errors.Join(errs...)
}
