// Package storetest checks the contract of store.Store. Every implementation
// runs through it.
package storetest
