package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("testlog", flag.ContinueOnError)
	extra := flags.Int("failed", 0, "failures outside the event streams")
	if err := flags.Parse(args); err != nil {
		return err
	}
	sum := newSummary()
	for _, name := range flags.Args() {
		if err := readFile(sum, name); err != nil {
			return err
		}
	}
	sum.print(stdout, *extra)
	return nil
}

func readFile(sum *summary, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := sum.read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
