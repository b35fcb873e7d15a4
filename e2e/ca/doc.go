// Package ca runs what the guide on several hosts says: the embedded CA and an
// agent of another host as real processes, with the guide's own files and
// commands.
package ca
