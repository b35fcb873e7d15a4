// Package docs keeps the reference documents true: the configuration reference
// is written from the configuration's types and their comments, the list of
// metrics from what running processes serve. The tests fail when a document
// differs; with -update they write it.
package docs
