// Package file reads a catalog that people (or configuration management) write
// as a YAML file, and follows its changes.
//
// The file is looked at in intervals, which works alike on every platform, on
// network file systems, and with files that are replaced by a rename or a
// swapped symbolic link (Kubernetes config maps). A file with a problem changes
// nothing: the last good content stays, and all problems are reported at once,
// each with its line, field, value and rule.
//
// README.md shows the format. Used by cmd/isthmus for sources of kind "file".
package file
