// Package terraform tests the modules in terraform/ with the real terraform program:
// their own tests, the AWS ones against the real provider and moto, the Google ones
// against the provider's published schema, and the module host for real: three
// clusters of processes, joined, one taken down, all taken down, nothing left.
//
// Each test says what it ran against. Working folders are copies, so that no run
// leaves anything in the checkout.
package terraform
