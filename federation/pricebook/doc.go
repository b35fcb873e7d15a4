// Package pricebook reads price books (package price) from YAML, strictly, and follows
// the file of one, keeping the last that was good.
package pricebook
