package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is the commit that a release is made of.
type source struct {
	version  string // semantic, without a leading v
	commit   string
	time     time.Time // of the commit
	modified bool
}

// semver is what packages, charts and images all take for a version.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

// checkout is the top of the work tree.
func checkout(ctx context.Context) (string, error) {
	dir, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	return dir, nil
}

// describe reads the commit of the checkout. version may be empty.
func describe(ctx context.Context, root, version string, dirty bool) (source, error) {
	var s source
	var err error
	if s.commit, err = git(ctx, root, "rev-parse", "HEAD"); err != nil {
		return s, err
	}
	unix, err := git(ctx, root, "log", "-1", "--format=%ct")
	if err != nil {
		return s, err
	}
	seconds, err := strconv.ParseInt(unix, 10, 64)
	if err != nil {
		return s, fmt.Errorf("time of the commit: %w", err)
	}
	s.time = time.Unix(seconds, 0).UTC()
	// Libraries look there for the time of what they write.
	if err := os.Setenv("SOURCE_DATE_EPOCH", unix); err != nil {
		return s, err
	}
	status, err := git(ctx, root, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return s, err
	}
	if s.modified = status != ""; s.modified && !dirty {
		return s, fmt.Errorf("the work tree differs from its commit (-dirty builds it all the same):\n%s", status)
	}
	if s.version = strings.TrimPrefix(version, "v"); s.version == "" {
		if s.version, err = tagged(ctx, root); err != nil {
			return s, err
		}
	}
	if !semver.MatchString(s.version) {
		return s, fmt.Errorf("-version: %q is no semantic version such as 1.2.3 or 1.2.3-rc.1", s.version)
	}
	return s, nil
}

// tagged is the version by the commit's tag, else one before all others.
func tagged(ctx context.Context, root string) (string, error) {
	if tag, err := git(ctx, root, "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return strings.TrimPrefix(tag, "v"), nil
	}
	count, err := git(ctx, root, "rev-list", "--count", "HEAD")
	if err != nil {
		return "", err
	}
	return "0.0.0-dev." + count, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	if dir == "." {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return "", err
		}
	}
	// The checkout may belong to another user, as in a container.
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*"}, args...)...)
	cmd.Dir = filepath.Clean(dir)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
