package file

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// DefaultInterval is how often the file is looked at: a look costs one stat.
	DefaultInterval = 500 * time.Millisecond
	minInterval     = 10 * time.Millisecond
	maxInterval     = time.Hour
)

// Config of a file as a source.
type Config struct {
	// Path of the YAML file.
	Path string `yaml:"path"`
	// Interval is how often it is looked at; 0 means DefaultInterval.
	Interval time.Duration `yaml:"interval,omitempty"`
}

// Validate reports every problem; it touches no file.
func (c Config) Validate() error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, strictyaml.Fail("path", "", "is missing"))
	}
	if c.Interval != 0 && (c.Interval < minInterval || c.Interval > maxInterval) {
		errs = append(errs, strictyaml.Fail("interval", c.Interval.String(), "must be between 10ms and 1h"))
	}
	return errors.Join(errs...)
}
