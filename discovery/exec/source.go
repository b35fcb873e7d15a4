package exec

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Options of New.
type Options struct {
	Config Config
	// Log receives the log, the command's standard error included; nil discards it.
	Log *slog.Logger
	// LookupEnv reads the variables that Config.Env names; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
}

// Source is one command.
type Source struct {
	opts Options
	log  *slog.Logger
	kick chan struct{}

	mu       sync.Mutex
	lastRead time.Time
	lastErr  error
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it starts nothing.
func New(o Options) (*Source, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, strictyaml.Within("exec", err)
	}
	o.Config.MaxSilence = cmp.Or(o.Config.MaxSilence, DefaultMaxSilence)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	return &Source{opts: o, log: o.Log.With("source", o.Config.Name), kick: make(chan struct{}, 1)}, nil
}

// Run implements discovery.Source: it runs the command once. It returns an error
// when the command ended (*ExitError), broke the protocol (*ProtocolError), or
// fell silent; a discovery.Runner then starts it anew with back-off, and keeps
// what was published. The command's whole process group has ended when Run
// returns.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	if ctx.Err() != nil {
		return nil
	}
	c, err := s.start()
	if err == nil {
		err = c.run(ctx, publish)
	}
	if ctx.Err() != nil {
		return nil
	}
	s.report(err)
	return err
}

func (s *Source) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr = err; err == nil {
		s.lastRead = time.Now()
	}
}

// LastRead implements discovery.Reporter.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, s.lastErr
}

// Reread implements discovery.Rereader: the command is asked to read everything
// now. One that does not listen says by itself, now and then, that it did.
func (s *Source) Reread() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// environment is what the command gets: never nil, which would be everything.
func (s *Source) environment() []string {
	env := []string{}
	for _, name := range s.opts.Config.Env {
		if v, ok := s.opts.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// ErrSilent says that a command printed nothing for Config.MaxSilence.
var ErrSilent = errors.New("the command has fallen silent")
