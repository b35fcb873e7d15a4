// Package provider runs the Terraform provider as its users do: the real terraform
// plans and applies with it (dev_overrides) against a real federation.
package provider
