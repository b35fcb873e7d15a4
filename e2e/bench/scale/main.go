package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/processors"
	"github.com/isthmus-mesh/isthmus/internal/timerslack"
)

// The arguments by which this program starts itself.
const (
	worldRole   = "-as-world"
	subjectRole = "-as-subject"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 2 && args[0] == worldRole {
		s, err := decodeSize(args[1])
		if err != nil {
			return err
		}
		return runWorld(ctx, s, os.Stdin, os.Stdout)
	}
	if len(args) > 1 && args[0] == subjectRole {
		// As a federation service does:
		if err := timerslack.Lengthen(); err != nil {
			return err
		}
		go processors.Follow(ctx)
		return runSubject(ctx, args[1], args[2:], out)
	}
	p, err := parseFlags(args)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var results []result
	for _, percent := range p.Shares {
		var these, those []result
		for round := range p.Rounds {
			res, err := fresh(ctx, self, percent, args)
			if err != nil {
				return fmt.Errorf("%d %%: %w", percent, err)
			}
			these = append(these, res)
			fmt.Fprintf(out, "%d %%, round %d: %v\n%s\n", percent, round+1, res.Size, res)
			if p.Against == "" {
				continue
			}
			if res, err = fresh(ctx, p.Against, percent, args); err != nil {
				return fmt.Errorf("%d %%, %s: %w", percent, p.Against, err)
			}
			those = append(those, res)
			fmt.Fprintf(out, "%d %%, round %d of %s\n%s\n", percent, round+1, p.Against, res)
		}
		fmt.Fprint(out, ratios(these, those))
		results = append(results, these[len(these)-1])
	}
	fmt.Fprint(out, curve(results))
	if !p.Memory {
		return nil
	}
	last := len(results) - 1
	return memory(ctx, p.Shares[last], results[last], args, out)
}

// memory tells what endpoints and rows take, by what the heap is without most of
// them.
func memory(ctx context.Context, percent int, all result, args []string, out io.Writer) error {
	args = append(slices.Clone(args), "-steady", "0s")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fewEndpoints, err := fresh(ctx, self, percent, append(slices.Clone(args), "-endpoints", strconv.Itoa(all.Size.Services*100/percent)))
	if err != nil {
		return err
	}
	fewRows, err := fresh(ctx, self, percent, append(slices.Clone(args), "-spread", "1"))
	if err != nil {
		return err
	}
	endpoints, rows := all.Size.Endpoints-fewEndpoints.Size.Endpoints, all.Size.rows()-fewRows.Size.rows()
	fmt.Fprintf(out, "heap by endpoint %.0f B, by row %.0f B\n",
		float64(all.Heap-fewEndpoints.Heap)/float64(endpoints), float64(all.Heap-fewRows.Heap)/float64(rows))
	return nil
}

// fresh measures one size by a build of this program, in processes of its own.
func fresh(ctx context.Context, build string, percent int, args []string) (res result, err error) {
	child := exec.CommandContext(ctx, build, append([]string{subjectRole, strconv.Itoa(percent)}, args...)...)
	child.Stderr = os.Stderr
	answer, err := child.Output()
	if err != nil {
		return res, err
	}
	return res, json.Unmarshal(answer, &res)
}

// runSubject is the process that holds the service; it starts the world's.
func runSubject(ctx context.Context, percent string, args []string, out io.Writer) error {
	p, err := parseFlags(args)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(percent)
	if err != nil {
		return err
	}
	s := p.share(n)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	world := exec.CommandContext(ctx, self, worldRole, string(text))
	world.Stderr = os.Stderr
	in, err := world.StdinPipe()
	if err != nil {
		return err
	}
	words, err := world.StdoutPipe()
	if err != nil {
		return err
	}
	if err := world.Start(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	res, err := newSubject(p, s, words, in, dir).run(ctx)
	_ = in.Close() // which ends the world
	err = errors.Join(err, world.Wait())
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(res)
}
