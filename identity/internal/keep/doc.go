// Package keep writes and reads the files in which identity keeps secrets and
// last good data: complete or not at all, checked by digest, and private to their
// owner. Identity's cache file and the embedded CA's state use it.
package keep
