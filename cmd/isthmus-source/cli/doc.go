// Package cli is the isthmus-source command line: one file a kind of source,
// which says how its configuration file becomes a source. What is common (flags,
// log, metrics, printing) is in kind.go.
package cli
