// Command release builds what is published of a version: static binaries, Debian and
// RPM packages, a container image, the Helm chart, a bill of materials for each binary,
// the provenance of all of it, and their checksums.
//
//	go run -C deploy/release . -out ../../dist
//
// The same commit gives the same bytes, wherever the checkout lies and whoever builds:
// times are the commit's, paths are trimmed, lists are sorted. It is a module of its
// own, so that what it needs stays out of the product's.
package main
