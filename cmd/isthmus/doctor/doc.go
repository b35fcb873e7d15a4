// Package doctor judges what a federation says of itself, for isthmus check: one
// verdict a thing, and what to do about each that is not good. It is pure; the
// command asks and prints.
package doctor
