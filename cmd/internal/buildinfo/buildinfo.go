package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// A release build sets these (-ldflags -X), since its result must not depend on
// where the checkout lies or who owns it. Otherwise the module's version and the
// commit that the go command saw say what was built.
var ( //nolint:gochecknoglobals // the linker can set nothing else
	version = ""
	commit  = ""
	time    = ""
	builder = ""
)

// Source is where the code of each build is kept.
const Source = "https://github.com/isthmus-mesh/isthmus"

// Info is what `isthmus version` says: which code, at which commit, built by what and
// how. A release's provenance file says the same with the digests of its files.
type Info struct {
	Version string `json:"version"`
	Source  string `json:"source"`
	// Commit is the git revision; Time when it was made (RFC 3339).
	Commit string `json:"commit,omitempty"`
	Time   string `json:"commit_time,omitempty"`
	// Modified says that the work tree held more than the commit.
	Modified bool `json:"modified,omitempty"`
	// Builder is deploy/release for its builds, else the go command.
	Builder  string `json:"builder"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Flags are the settings of the build that change the binary.
	Flags map[string]string `json:"flags,omitempty"`
	// Modules are all that was compiled in.
	Modules []Module `json:"modules,omitempty"`
}

// Module is one dependency of the binary, with the checksum of go.sum.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"`
}

// Read returns what this binary knows of itself.
func Read() Info {
	b := Info{
		Version: version, Source: Source, Commit: commit, Time: time, Builder: builder,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b.Builder == "" {
		b.Builder = "go build"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		if b.Version == "" {
			b.Version = "unknown"
		}
		return b
	}
	b.settings(info.Settings)
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, d := range info.Deps {
		b.Modules = append(b.Modules, Module{Path: d.Path, Version: d.Version, Sum: d.Sum})
	}
	return b
}

func (b *Info) settings(all []debug.BuildSetting) {
	b.Flags = map[string]string{}
	for _, s := range all {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "-trimpath", "-tags", "-race", "CGO_ENABLED", "GOAMD64", "GOARM64", "GOFIPS140":
			b.Flags[s.Key] = s.Value
		}
	}
}
